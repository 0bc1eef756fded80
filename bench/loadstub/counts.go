//go:build linux

package main

import (
	"encoding/json"
	"strings"
)

// counts is what /__stats reports; only the server's one thread touches it.
type counts struct {
	puts          int64 // events that were written, those that were written again included
	requests      int64 // that wrote them: more events than one each where SQS takes a batch
	refused       int64
	keys          map[string]struct{}
	completedNs   []int64 // when each distinct key was first answered: ascending, because one thread answers
	bodyBytes     int64
	otherRequests int64
	connections   int64
	inFlight      int64
	maxInFlight   int64 // requests
	firstPutNs    int64 // arrival of the first write's headers
	lastPutNs     int64 // answer to the last write
	abandonedPuts int64 // writes whose client was gone when the answer fell due
}

func newCounts() counts { return counts{keys: make(map[string]struct{})} }

func (c *counts) writeArrived(nowNs int64) {
	if c.firstPutNs == 0 {
		c.firstPutNs = nowNs
	}
	c.inFlight++
	c.maxInFlight = max(c.maxInFlight, c.inFlight)
}

func (c *counts) writeAnswered(keys []string, bodyBytes, nowNs int64) {
	c.inFlight--
	if len(keys) == 1 && strings.Contains(keys[0], "ledger/") { // one for 10,000 events, and no event
		c.otherRequests++
		return
	}
	c.requests++
	c.bodyBytes += bodyBytes
	c.lastPutNs = nowNs
	for _, key := range keys {
		c.puts++
		before := len(c.keys)
		c.keys[key] = struct{}{}
		if len(c.keys) > before {
			c.completedNs = append(c.completedNs, nowNs)
		}
	}
}

func (c *counts) writeRefused() {
	c.inFlight--
	c.refused++
}

func (c *counts) writeAbandoned() {
	c.inFlight--
	c.abandonedPuts++
}

// steadyPerSecond is the rate between the 10th and the 90th percentile of completions: neither ramp counts.
func (c *counts) steadyPerSecond() float64 {
	n := len(c.completedNs)
	if n < 20 {
		return 0
	}
	low, high := n/10, n*9/10
	spanNs := c.completedNs[high] - c.completedNs[low]
	if spanNs <= 0 {
		return 0
	}
	return float64(high-low) / (float64(spanNs) / 1e9)
}

func (c *counts) json() []byte {
	out, err := json.Marshal(map[string]any{
		"puts":              c.puts,
		"requests":          c.requests,
		"refused":           c.refused,
		"keys":              len(c.keys),
		"body_bytes":        c.bodyBytes,
		"other_requests":    c.otherRequests,
		"connections":       c.connections,
		"max_in_flight":     c.maxInFlight,
		"first_put_ns":      c.firstPutNs,
		"last_put_ns":       c.lastPutNs,
		"abandoned_puts":    c.abandonedPuts,
		"steady_per_second": c.steadyPerSecond(),
	})
	if err != nil {
		panic(err) // numbers only: cannot fail
	}
	return out
}
