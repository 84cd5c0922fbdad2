// Package pod is the generated code of pod.proto: what the Sandbox API needs of a
// Kubernetes pod's configuration. Values only.
package pod
