package sandboxes

// Expired is expired.
var Expired = expired
