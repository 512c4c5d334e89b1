// measure.go - the twin of bench/rpc/measure.c: flags, payloads, latencies, CPU time, one line of JSON
package main

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	latenciesMax    = 1 << 23
	checkWholeEvery = 256
)

type plan struct {
	endpoint, mode   string
	size, inFlight   int
	seconds, warmupS float64
	pids             []int
	pidNames         []string
}

func parse(args []string) *plan {
	p := &plan{}
	flags := flag.NewFlagSet("client", flag.ExitOnError)
	flags.StringVar(&p.endpoint, "endpoint", "", "where to call")
	flags.StringVar(&p.mode, "mode", "", "which calls")
	flags.IntVar(&p.size, "size", 64, "bytes of payload")
	flags.IntVar(&p.inFlight, "in-flight", 1, "calls at once")
	flags.Float64Var(&p.seconds, "seconds", 1, "measured")
	flags.Float64Var(&p.warmupS, "warmup", 0.2, "seconds before that")
	flags.Func("pid", "NAME=PID, whose CPU time is asked for", func(text string) error {
		name, number, _ := strings.Cut(text, "=")
		pid, err := strconv.Atoi(number)
		p.pids = append(p.pids, pid)
		p.pidNames = append(p.pidNames, name)
		return err
	})
	flags.Parse(args)
	return p
}

func cpuOf(pid int) float64 {
	var used unix.Timespec
	clock := int32(unix.CLOCK_PROCESS_CPUTIME_ID)
	if pid != 0 {
		clock = ^int32(pid)<<3 | 2 // what clock_getcpuclockid() gives
	}
	if unix.ClockGettime(clock, &used) != nil {
		return 0
	}
	return float64(used.Sec) + float64(used.Nsec)*1e-9
}

func fill(payload []byte) {
	x := uint32(0x9e3779b9)
	for i := range payload {
		x = x*1664525 + 1013904223
		payload[i] = byte(x >> 24)
	}
}

func stamp(payload []byte, number uint64) {
	var bytes [8]byte
	binary.LittleEndian.PutUint64(bytes[:], number)
	n := min(len(payload), len(bytes))
	copy(payload[:n], bytes[:n])
	copy(payload[len(payload)-n:], bytes[:n])
}

func check(sent, got []byte, number uint64) {
	n := min(len(sent), 8)
	if len(got) == len(sent) && bytes.Equal(got[:n], sent[:n]) &&
		bytes.Equal(got[len(got)-n:], sent[len(sent)-n:]) &&
		(number%checkWholeEvery != 0 || bytes.Equal(got, sent)) {
		return
	}
	fatal(fmt.Errorf("call %d: the reply is not what was sent (%d bytes of %d)", number, len(got), len(sent)))
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// A measure is used by all goroutines.
type measure struct {
	lock        sync.Mutex
	plan        *plan
	warm, begin time.Time
	end         time.Time
	cpu         []float64 // the client's own last
	over        bool
	calls       uint64
	latencies   []uint32 // nanoseconds
	number      uint64
	last        time.Time
	gap         time.Duration // the longest without an answer
}

func newMeasure(p *plan) *measure {
	return &measure{
		plan: p, cpu: make([]float64, len(p.pids)+1), latencies: make([]uint32, 0, latenciesMax),
		warm: time.Now().Add(time.Duration(p.warmupS * 1e9)),
	}
}

func (m *measure) readCPU(sign float64) {
	for i, pid := range m.plan.pids {
		m.cpu[i] += sign * cpuOf(pid)
	}
	m.cpu[len(m.plan.pids)] += sign * cpuOf(0)
}

// next numbers a call.
func (m *measure) next() uint64 {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.number++
	return m.number
}

// call counts one that has ended; false: the time is over.
func (m *measure) call(begun time.Time) bool {
	now := time.Now()
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.over {
		return false
	}
	if m.begin.IsZero() {
		if !now.Before(m.warm) {
			m.readCPU(-1)
			m.begin, m.last = now, now
		}
		return true
	}
	m.calls++
	m.gap = max(m.gap, now.Sub(m.last))
	m.last = now
	if !begun.Before(m.begin) && len(m.latencies) < latenciesMax {
		m.latencies = append(m.latencies, uint32(min(now.Sub(begun), 1<<32-1)))
	}
	if now.Sub(m.begin).Seconds() < m.plan.seconds {
		return true
	}
	m.end = now
	m.over = true
	m.readCPU(1)
	return false
}

func (m *measure) quantileUs(q float64) float64 {
	if len(m.latencies) == 0 {
		return 0
	}
	return float64(m.latencies[int(q*float64(len(m.latencies)-1))]) * 1e-3
}

func (m *measure) print() {
	slices.Sort(m.latencies)
	perCall := 1e6 / float64(max(m.calls, 1))
	fmt.Printf(`{"calls": %d, "calls_per_s": %.1f, "p50_us": %.2f, "p99_us": %.2f, "max_us": %.1f, "gap_us": %.1f, "cpu_us": {`,
		m.calls, float64(m.calls)/m.end.Sub(m.begin).Seconds(), m.quantileUs(0.5), m.quantileUs(0.99), m.quantileUs(1),
		float64(m.gap.Nanoseconds())*1e-3)
	for i, name := range m.plan.pidNames {
		fmt.Printf(`"%s": %.3f, `, name, m.cpu[i]*perCall)
	}
	fmt.Printf("\"client\": %.3f}}\n", m.cpu[len(m.plan.pids)]*perCall)
}
