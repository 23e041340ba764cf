package outgoing

import (
	"encoding/binary"
	"syscall"
)

const (
	tcpHeader = 20
	flagRST   = 0x04
	flagACK   = 0x10
	hopLimit  = 64
)

// parse returns what the first segment of a connection, an IPv4 packet, is about, and the segment itself.
func parse(packet []byte) (f flow, segment []byte, ok bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return f, nil, false
	}
	header := int(packet[0]&15) * 4
	if header < 20 || len(packet) < header+tcpHeader {
		return f, nil, false
	}
	segment = packet[header:]
	return flowOf(fourAddress(packet[12:16]), fourAddress(packet[16:20]), segment), segment, true
}

func flowOf(client, server address, segment []byte) flow {
	return flow{
		end{client, binary.BigEndian.Uint16(segment)}, end{server, binary.BigEndian.Uint16(segment[2:])},
	}
}

// refusal is the segment that answers *segment* as a port does on which nobody listens.
func refusal(segment []byte) []byte {
	answer := make([]byte, tcpHeader)
	copy(answer[0:], segment[2:4])
	copy(answer[2:], segment[0:2])
	binary.BigEndian.PutUint32(answer[8:], binary.BigEndian.Uint32(segment[4:])+1)
	answer[12] = tcpHeader / 4 << 4
	answer[13] = flagRST | flagACK
	return answer
}

// datagram is a whole packet with a copy of *segment*, whose checksum is made: that of one which has not left its machine
// may never have been.
func datagram(from, to address, segment []byte) []byte {
	var packet []byte
	if from.six {
		packet = append(packet, 6<<4, 0, 0, 0)
		packet = binary.BigEndian.AppendUint16(packet, uint16(len(segment)))
		packet = append(packet, syscall.IPPROTO_TCP, hopLimit)
	} else {
		packet = append(packet, 4<<4|5, 0)
		packet = binary.BigEndian.AppendUint16(packet, uint16(20+len(segment)))
		packet = append(packet, 0, 0, 0, 0, hopLimit, syscall.IPPROTO_TCP, 0, 0) // the kernel writes number and checksum
	}
	packet = append(packet, from.bytes[:from.length()]...)
	packet = append(packet, to.bytes[:to.length()]...)
	header := len(packet)
	packet = append(packet, segment...)
	segment = packet[header:]
	segment[16], segment[17] = 0, 0
	binary.BigEndian.PutUint16(segment[16:], checksum(from, to, segment))
	return packet
}

func checksum(from, to address, segment []byte) uint16 {
	total := uint32(syscall.IPPROTO_TCP) + uint32(len(segment))
	for _, bytes := range [][]byte{from.bytes[:], to.bytes[:], segment} {
		for i := 0; i < len(bytes); i += 2 {
			total += uint32(bytes[i]) << 8
			if i+1 < len(bytes) {
				total += uint32(bytes[i+1])
			}
		}
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return ^uint16(total)
}
