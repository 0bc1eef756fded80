//go:build linux

package main

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"
)

const (
	readBufferBytes = 256 << 10
	maxHeadBytes    = 64 << 10
	eventsAtOnce    = 512

	xmlHeader = `<?xml version="1.0" encoding="UTF-8"?>`
	emptyList = xmlHeader + `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bench</Name><Prefix></Prefix>` +
		`<KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>`
	location = xmlHeader + `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></LocationConstraint>`
)

var (
	answerContinue = []byte("HTTP/1.1 100 Continue\r\n\r\n")
	answerPut      = []byte("HTTP/1.1 200 OK\r\nETag: \"d41d8cd98f00b204e9800998ecf8427e\"\r\nx-amz-request-id: 1\r\nContent-Length: 0\r\n\r\n")
	answerHead     = []byte("HTTP/1.1 200 OK\r\nx-amz-bucket-region: us-east-1\r\nx-amz-request-id: 1\r\nContent-Length: 0\r\n\r\n")
)

// connection is one client's socket and how far its present request has been read.
type connection struct {
	fd         int
	held       []byte // bytes read but not yet understood: part of a head, or a request sent before its turn
	bodyLeft   int64
	bodyBytes  int64
	writing    bool     // what is being read, or waits for its answer, writes events
	keys       []string // of the events that it writes
	answer     []byte
	operation  string // of SQS, while its body is being read
	body       []byte // of a request to SQS; those of PUTs are not kept
	busy       bool   // a write waits for its answer: nothing more is read from what is held
	closeAfter bool
	closed     bool
}

type dueAnswer struct {
	dueNs int64
	conn  *connection
}

type server struct {
	address     string
	latencyNs   int64
	epoll       int
	listener    int
	connections map[int32]*connection
	due         []dueAnswer // ascending; due[dueHead:] still wait
	dueHead     int
	readBuffer  []byte
	messages    int64 // taken as SQS, ever: makes their ids
	counts      counts
}

func listen(address string, latency time.Duration) (*server, error) {
	wanted, err := netip.ParseAddrPort(address)
	if err != nil || !wanted.Addr().Is4() {
		return nil, fmt.Errorf("-address %q is not an IPv4 address and port", address)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return nil, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(wanted.Port()), Addr: wanted.Addr().As4()}); err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	if err := syscall.Listen(fd, 4096); err != nil {
		return nil, err
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	s := &server{
		address:     net.JoinHostPort(wanted.Addr().String(), fmt.Sprint(bound.(*syscall.SockaddrInet4).Port)),
		latencyNs:   latency.Nanoseconds(),
		epoll:       epoll,
		listener:    fd,
		connections: make(map[int32]*connection),
		readBuffer:  make([]byte, readBufferBytes),
		counts:      newCounts(),
	}
	return s, s.watch(fd)
}

func (s *server) watch(fd int) error {
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP, Fd: int32(fd)}
	return syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_ADD, fd, &event)
}

func (s *server) serve() error {
	events := make([]syscall.EpollEvent, eventsAtOnce)
	for {
		n, err := epollWait(s.epoll, events, s.waitMs())
		if err != nil {
			return err
		}
		for i := 0; i < n; i++ {
			if events[i].Fd == int32(s.listener) {
				s.accept()
			} else if c := s.connections[events[i].Fd]; c != nil {
				s.read(c)
			}
		}
		s.answerDue()
	}
}

// epollWait waits without telling Go's scheduler, whose watch thread would otherwise wake every 20 µs to see whether
// this call should give its processor up: a quarter of the stub's CPU. Its preemption signals end the wait with EINTR.
func epollWait(epoll int, events []syscall.EpollEvent, timeoutMs int) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), uintptr(timeoutMs), 0, 0)
	if errno == syscall.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// waitMs is the time to the next answer, rounded up; -1 waits for a request.
func (s *server) waitMs() int {
	if s.dueHead == len(s.due) {
		return -1
	}
	leftNs := s.due[s.dueHead].dueNs - time.Now().UnixNano()
	if leftNs <= 0 {
		return 0
	}
	return int((leftNs + 999_999) / 1_000_000)
}

func (s *server) accept() {
	for {
		fd, _, err := syscall.Accept4(s.listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return // nobody is left in the queue
		}
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		if s.watch(fd) != nil {
			_ = syscall.Close(fd)
			continue
		}
		s.connections[int32(fd)] = &connection{fd: fd}
		s.counts.connections++
	}
}

func (s *server) close(c *connection) {
	if c.closed {
		return
	}
	c.closed = true
	delete(s.connections, int32(c.fd))
	_ = syscall.Close(c.fd)
	if c.writing {
		s.counts.writeAbandoned()
	}
}

// read takes what has arrived once; epoll is level-triggered and tells again if there is more.
func (s *server) read(c *connection) {
	n, err := syscall.Read(c.fd, s.readBuffer)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if err != nil || n <= 0 {
		s.close(c)
		return
	}
	s.understand(c, s.readBuffer[:n])
}

// understand takes requests off data, one after the other, and keeps what is left for later.
func (s *server) understand(c *connection, data []byte) {
	if len(c.held) > 0 {
		data = append(c.held, data...)
		c.held = nil
	}
	for len(data) > 0 && !c.closed {
		if c.bodyLeft > 0 {
			taken := min(c.bodyLeft, int64(len(data)))
			if c.operation != "" {
				c.body = append(c.body, data[:taken]...)
			}
			c.bodyLeft -= taken
			data = data[taken:]
			if c.bodyLeft == 0 {
				s.requestRead(c)
			}
			continue
		}
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if c.busy || (end < 0 && len(data) < maxHeadBytes) {
			c.held = append(c.held, data...)
			return
		}
		if end < 0 {
			s.refuse(c, "431 Request Header Fields Too Large", "the request's head is too large")
			return
		}
		head := data[:end]
		data = data[end+4:]
		s.headRead(c, head, len(data) > 0)
	}
}

func (s *server) headRead(c *connection, head []byte, bodyBegan bool) {
	r, err := parseRequest(head)
	if err != nil {
		status := "400 Bad Request"
		if err == errChunked {
			status = "411 Length Required"
		}
		s.refuse(c, status, err.Error())
		return
	}
	c.closeAfter = r.closeAfter
	c.bodyLeft, c.bodyBytes = r.contentLength, r.contentLength
	c.operation = r.sqsOperation()
	switch {
	case c.operation != "":
		c.writing = sqsSends(c.operation)
	case r.isObjectPut():
		c.writing = true
		c.keys = append(c.keys[:0], string(r.path))
		c.answer = answerPut
	default:
		c.answer = s.otherAnswer(&r)
	}
	if c.writing {
		s.counts.writeArrived(time.Now().UnixNano())
	}
	if c.bodyLeft == 0 {
		s.requestRead(c)
	} else if r.expectContinue && !bodyBegan {
		s.write(c, answerContinue)
	}
}

// requestRead is called once a request's last byte is there.
func (s *server) requestRead(c *connection) {
	if c.operation != "" {
		s.sqsRead(c)
	}
	switch {
	case !c.writing:
		s.send(c, c.answer)
	case s.latencyNs == 0:
		s.answerWrite(c, time.Now().UnixNano())
	default:
		c.busy = true
		s.due = append(s.due, dueAnswer{time.Now().UnixNano() + s.latencyNs, c})
	}
}

// sqsRead makes the answer while the latency still lies ahead.
func (s *server) sqsRead(c *connection) {
	c.answer, c.keys, c.bodyBytes = s.sqsAnswer(c.operation, c.body)
	c.operation, c.body = "", c.body[:0]
	if c.writing && len(c.keys) == 0 {
		c.writing = false
		s.counts.writeRefused()
	}
}

func (s *server) answerDue() {
	nowNs := time.Now().UnixNano()
	for s.dueHead < len(s.due) && s.due[s.dueHead].dueNs <= nowNs {
		c := s.due[s.dueHead].conn
		s.due[s.dueHead].conn = nil
		s.dueHead++
		if c.closed {
			continue
		}
		c.busy = false
		s.answerWrite(c, nowNs)
		if len(c.held) > 0 && !c.closed {
			s.understand(c, nil)
		}
	}
	if s.dueHead > 4096 && s.dueHead*2 > len(s.due) {
		s.due = s.due[:copy(s.due, s.due[s.dueHead:])]
		s.dueHead = 0
	}
}

func (s *server) answerWrite(c *connection, nowNs int64) {
	c.writing = false
	s.counts.writeAnswered(c.keys, c.bodyBytes, nowNs)
	s.send(c, c.answer)
}

func (s *server) otherAnswer(r *request) []byte {
	switch {
	case string(r.path) == "/__stats":
		return answerWith("200 OK", "application/json", s.counts.json())
	case string(r.path) == "/__reset":
		before := s.counts.json()
		inFlight := s.counts.inFlight
		s.counts = newCounts()
		s.counts.inFlight = inFlight
		return answerWith("200 OK", "application/json", before)
	}
	s.counts.otherRequests++
	switch {
	case string(r.method) == "GET" && bytes.HasPrefix(r.query, []byte("location")):
		return answerWith("200 OK", "application/xml", []byte(location))
	case string(r.method) == "GET":
		return answerWith("200 OK", "application/xml", []byte(emptyList))
	}
	return answerHead
}

func answerWith(status, contentType string, body []byte) []byte {
	head := fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", status, contentType, len(body))
	return append([]byte(head), body...)
}

func (s *server) refuse(c *connection, status, reason string) {
	s.write(c, []byte(fmt.Sprintf("HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", status, len(reason), reason)))
	s.close(c)
}

func (s *server) send(c *connection, answer []byte) {
	s.write(c, answer)
	if c.closeAfter {
		s.close(c)
	}
}

// write sends an answer of 3 KB at most; a client whose socket cannot even take that has stopped reading.
func (s *server) write(c *connection, answer []byte) {
	if n, err := syscall.Write(c.fd, answer); err != nil || n < len(answer) {
		s.close(c)
	}
}
