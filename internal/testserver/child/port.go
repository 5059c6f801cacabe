package child

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports that the kernel gives to nobody who asks for any: it takes those from 32768 on.
const firstPort, lastPort = 20000, 32767

// Port returns a TCP port of 127.0.0.1 that is free and that no listener on port 0 and no
// connection gets by chance, neither before a program listens on it nor
// while that is killed and starts again.
func Port() (int, error) {
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("of a hundred ports of 127.0.0.1 none is free")
}
