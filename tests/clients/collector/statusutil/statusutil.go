// Package statusutil stands in for the Collector's internal module of this name, which module proxies do not all
// serve. It is of use only where a request fails: how an HTTP status is told as a gRPC one in the body of an answer.
package statusutil

import (
	"net/http"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// NewStatusFromMsgAndHTTPCode gives the status with that message that is nearest to an HTTP status code.
func NewStatusFromMsgAndHTTPCode(message string, code int) *status.Status {
	nearest := codes.Unknown
	switch code {
	case http.StatusBadRequest:
		nearest = codes.InvalidArgument
	case http.StatusUnauthorized:
		nearest = codes.Unauthenticated
	case http.StatusForbidden:
		nearest = codes.PermissionDenied
	case http.StatusNotFound:
		nearest = codes.Unimplemented
	case http.StatusTooManyRequests:
		nearest = codes.ResourceExhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		nearest = codes.Unavailable
	}
	return status.New(nearest, message)
}

// GetRetryInfo finds when to try again; nil if the status does not say.
func GetRetryInfo(from *status.Status) *errdetails.RetryInfo {
	for _, detail := range from.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info
		}
	}
	return nil
}
