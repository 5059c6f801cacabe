package box

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
)

// Dial is the command "cc-ci box dial HOST:PORT": it connects its standard input
// and output to a TCP address of the network that its container is in.
func Dial(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("box dial takes one address, not %d", len(args))
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", args[0])
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", args[0], err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		io.Copy(conn, os.Stdin)
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.CloseWrite()
		}
	}()
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		return fmt.Errorf("reading from %s: %w", args[0], err)
	}
	return nil
}

// DialCommand is the command line of [Dial] in a container.
func DialCommand(address string) []string { return []string{Program, "box", "dial", address} }
