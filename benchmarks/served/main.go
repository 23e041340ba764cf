// served answers every request with the same few bytes, on connections that stay, and one for /large with a GiB.
//
//	served HOST:PORT
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
)

const (
	answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 20\r\n\r\nhello from a server\n"
	large  = "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"
	pieces = 4096
)

var piece = make([]byte, 1<<30/pieces)

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "served:", err)
		os.Exit(1)
	}
	for {
		connection, err := listener.Accept()
		if err == nil {
			go serve(connection)
		}
	}
}

// serve reads heads: what is asked has no body.
func serve(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReader(connection)
	for much := false; ; {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return
		}
		much = much || bytes.HasPrefix(line, []byte("GET /large "))
		if len(line) > 2 {
			continue
		}
		if much {
			pour(connection)
			return
		}
		if _, err := connection.Write([]byte(answer)); err != nil {
			return
		}
	}
}

func pour(connection net.Conn) {
	_, err := connection.Write([]byte(large))
	for i := 0; i < pieces && err == nil; i++ {
		_, err = connection.Write(piece)
	}
}
