//go:build linux

// Command loadstub looks enough like S3 and SQS to be written to at speed, and does nothing else.
//
// It is MADE FOR LOAD AND PROVES NOTHING ABOUT CORRECTNESS: it checks no signature, stores no byte, knows no
// bucket and no queue, and says yes to every PUT and every message. It exists so that a benchmark can inject an exact
// latency and spend next to no CPU on the other side, because it shares its cores with what is measured. Whether the
// right bytes arrive is shown by the tests, which use real servers.
//
//	loadstub -address 127.0.0.1:0 -latency 73ms
//
// It prints the address it listens on as its first line, and ends when its standard input is closed, so that it
// never outlives the benchmark that started it. Control requests: GET /__stats and GET /__reset (both answer the
// counts as JSON; /__reset answers them and then clears them).
//
// One thread, one epoll: no locks and no goroutine switches. Since every write waits equally long, answers fall due
// in the order in which requests arrived, so a queue replaces timers. An answer leaves up to 1 ms late (epoll's
// resolution), never early.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"
)

func main() {
	address := flag.String("address", "127.0.0.1:0", "IPv4 address and port to listen on; port 0 takes a free one")
	latency := flag.Duration("latency", 0, "how long each write waits between its last byte and its answer")
	flag.Parse()
	debug.SetGCPercent(400)
	go endWithParent()
	if err := run(*address, *latency); err != nil {
		fmt.Fprintln(os.Stderr, "loadstub:", err)
		os.Exit(1)
	}
}

func endWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func run(address string, latency time.Duration) error {
	srv, err := listen(address, latency)
	if err != nil {
		return err
	}
	fmt.Println(srv.address)
	return srv.serve()
}
