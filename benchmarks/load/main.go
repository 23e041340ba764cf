// load asks one thing over and over, on many connections that stay, and says how it went.
//
//	load HOST:PORT PATH CONNECTIONS SECONDS
//
// In the place of HOST:PORT there may be the descriptors of connections that it was started with: "7,8,9".
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	address, path := os.Args[1], os.Args[2]
	connections, _ := strconv.Atoi(os.Args[3])
	seconds, _ := strconv.ParseFloat(os.Args[4], 64)
	ask := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: localhost:%s\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n",
		path, address[strings.LastIndex(address, ":")+1:])

	var group sync.WaitGroup
	took := make([][]time.Duration, connections)
	start := time.Now()
	end := start.Add(time.Duration(seconds * float64(time.Second)))
	for i := range connections {
		group.Go(func() { took[i] = client(connect(address, i), ask, end) })
	}
	group.Wait()
	all := slices.Concat(took...)
	slices.Sort(all)
	elapsed := time.Since(start).Seconds()
	at := func(share float64) float64 { return float64(all[int(share*float64(len(all)-1))].Microseconds()) / 1e3 }
	fmt.Printf(`{"requests": %d, "seconds": %.3f, "p50": %.3f, "p99": %.3f}`+"\n", len(all), elapsed, at(0.5), at(0.99))
}

func connect(address string, number int) net.Conn {
	if strings.Contains(address, ":") {
		connected, err := net.Dial("tcp", address)
		check(err)
		return connected
	}
	descriptor, err := strconv.Atoi(strings.Split(address, ",")[number])
	check(err)
	file := os.NewFile(uintptr(descriptor), "connection")
	defer file.Close()
	connected, err := net.FileConn(file)
	check(err)
	return connected
}

func client(connected net.Conn, ask []byte, end time.Time) []time.Duration {
	defer connected.Close()
	reader := bufio.NewReader(connected)
	var took []time.Duration
	for now := time.Now(); now.Before(end); {
		_, err := connected.Write(ask)
		check(err)
		answer(reader)
		next := time.Now()
		took = append(took, next.Sub(now))
		now = next
	}
	return took
}

// answer reads one whole answer, which must be a 200 with a Content-Length.
func answer(reader *bufio.Reader) {
	length := -1
	for first := true; ; first = false {
		line, err := reader.ReadString('\n')
		check(err)
		line = strings.TrimRight(line, "\r\n")
		if first && !strings.HasPrefix(line, "HTTP/1.1 200") {
			check(fmt.Errorf("the answer is %q", line))
		}
		if line == "" {
			break
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "content-length") {
			length, err = strconv.Atoi(strings.TrimSpace(value))
			check(err)
		}
	}
	_, err := io.CopyN(io.Discard, reader, int64(length))
	check(err)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
