// This file lets main.go declare functions without a body.
