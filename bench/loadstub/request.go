//go:build linux

package main

import (
	"bytes"
	"errors"
	"strconv"
)

// request is what the stub needs to know of an HTTP/1.1 request; slices point into the read buffer.
type request struct {
	method         []byte
	path           []byte
	target         []byte // of the AWS JSON protocol, such as AmazonSQS.SendMessage
	query          []byte
	contentLength  int64
	expectContinue bool
	closeAfter     bool
}

var (
	errMalformed = errors.New("malformed request")
	errChunked   = errors.New("Transfer-Encoding is not understood: send Content-Length")

	headContentLength    = []byte("content-length")
	headExpect           = []byte("expect")
	headConnection       = []byte("connection")
	headTransferEncoding = []byte("transfer-encoding")
	headTarget           = []byte("x-amz-target")
)

// parseRequest reads a request line and its headers: everything up to, without, the empty line.
// Only the four headers that change how the connection is read are looked at, and the one that names an operation.
func parseRequest(head []byte) (request, error) {
	var r request
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	method, target, ok := bytes.Cut(line, []byte(" "))
	if !ok {
		return r, errMalformed
	}
	target, _, ok = bytes.Cut(target, []byte(" "))
	if !ok {
		return r, errMalformed
	}
	r.method = method
	r.path, r.query, _ = bytes.Cut(target, []byte("?"))
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		if err := r.header(line); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *request) header(line []byte) error {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return errMalformed
	}
	name := line[:colon]
	switch len(name) { // the length alone rules out nearly every header
	case len(headContentLength):
		if bytes.EqualFold(name, headContentLength) {
			length, err := strconv.ParseInt(string(bytes.TrimSpace(line[colon+1:])), 10, 64)
			if err != nil || length < 0 {
				return errMalformed
			}
			r.contentLength = length
		}
	case len(headExpect):
		r.expectContinue = r.expectContinue || bytes.EqualFold(name, headExpect)
	case len(headConnection):
		if bytes.EqualFold(name, headConnection) {
			r.closeAfter = bytes.EqualFold(bytes.TrimSpace(line[colon+1:]), []byte("close"))
		}
	case len(headTarget):
		if bytes.EqualFold(name, headTarget) {
			r.target = bytes.TrimSpace(line[colon+1:])
		}
	case len(headTransferEncoding):
		if bytes.EqualFold(name, headTransferEncoding) {
			return errChunked
		}
	}
	return nil
}

// sqsOperation is what is asked of SQS, or nothing.
func (r *request) sqsOperation() string {
	operation, found := bytes.CutPrefix(r.target, []byte(sqsTargetPrefix))
	if !found || string(r.method) != "POST" {
		return ""
	}
	return string(operation)
}

// isObjectPut tells a PUT of an object (/bucket/key) from the creation of a bucket (/bucket).
func (r *request) isObjectPut() bool {
	if string(r.method) != "PUT" || len(r.path) < 2 {
		return false
	}
	slash := bytes.IndexByte(r.path[1:], '/')
	return slash >= 0 && slash+2 < len(r.path)
}
