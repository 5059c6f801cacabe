// Command guest is what a hostile image could hold: tests run it in containers. It is static, so
// that it is an image by itself.
//
//	guest wait                          does nothing
//	guest listen [PORT...]              answers "guest" on these TCP and UDP ports, 8080 unless named, and to the
//	                                    Docker API on port 2375 as a daemon whose one service is this container;
//	                                    at /client with what X-Forwarded-For says
//	guest dial tcp|udp ADDRESS...       says for each address, or group of addresses, whether something answers there
//	guest lookup NAME...                says for each name to which addresses it resolves
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience bounds a try, and says that a packet was dropped.
const patience = 1500 * time.Millisecond

func main() {
	if len(os.Args) < 2 {
		os.Exit(2)
	}
	switch args := os.Args[2:]; os.Args[1] {
	case "listen":
		if len(args) == 0 {
			args = []string{"8080"}
		}
		go func() { fmt.Println(http.ListenAndServe(":2375", http.HandlerFunc(docker))) }()
		for _, port := range args {
			go echo(port)
			go func() { fmt.Println(http.ListenAndServe(":"+port, http.HandlerFunc(greet))) }()
		}
		wait()
	case "dial":
		each(args[1:], func(address string) string { return dial(args[0], address) })
	case "lookup":
		each(args, lookup)
	default:
		wait()
	}
}

func wait() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	<-ctx.Done()
}

// each prints what do says of each argument, in their order.
func each(args []string, do func(string) string) {
	said := make([]string, len(args))
	var tries sync.WaitGroup
	for i, arg := range args {
		tries.Go(func() { said[i] = do(arg) })
	}
	tries.Wait()
	for i, arg := range args {
		fmt.Printf("%s %s\n", arg, said[i])
	}
}

func dial(network, address string) string {
	if to, err := netip.ParseAddrPort(address); err == nil && network == "udp" && to.Addr().IsMulticast() {
		return askGroup(net.UDPAddrFromAddrPort(to))
	}
	conn, err := net.DialTimeout(network, address, patience)
	if err == nil && network == "udp" {
		err = ask(conn)
	}
	if err == nil {
		conn.Close()
	}
	return outcome(err)
}

// outcome is what an error of a try says.
func outcome(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "open"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "silent"
	}
	return err.Error()
}

func ask(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("?")); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 16))
	return err
}

// askGroup asks a group of addresses, of which any may answer.
func askGroup(to net.Addr) string {
	conn, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return outcome(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.WriteTo([]byte("?"), to); err != nil {
		return outcome(err)
	}
	_, _, err = conn.ReadFrom(make([]byte, 16))
	return outcome(err)
}

func lookup(name string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return "none"
	}
	return strings.Join(addresses, ",")
}

func greet(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/client" {
		fmt.Fprint(w, strings.Join(r.Header["X-Forwarded-For"], " and "))
		return
	}
	fmt.Fprint(w, "guest")
}

// echo answers on a UDP port of each address that there is now, from that address, and of the group of all nodes on
// each link.
func echo(port string) {
	all, err := net.Interfaces()
	if err != nil {
		fmt.Println(err)
	}
	for _, i := range all {
		addresses, err := i.Addrs()
		if err != nil {
			fmt.Println(err)
		}
		link := false // it has IPv6
		for _, a := range addresses {
			ip := a.(*net.IPNet).IP
			host := ip.String()
			if ip.IsLinkLocalUnicast() && ip.To4() == nil {
				host, link = host+"%"+i.Name, true
			}
			go echoAt(net.JoinHostPort(host, port))
		}
		if link {
			go echoGroup(i.Index, port)
		}
	}
}

func echoAt(address string) {
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		fmt.Println(err)
		return
	}
	answer(conn)
}

// echoGroup answers what is sent to all nodes on a link. Package net would listen at every address instead.
func echoGroup(link int, port string) {
	number, err := strconv.Atoi(port)
	if err != nil {
		fmt.Println(err)
		return
	}
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	file := os.NewFile(uintptr(fd), "all nodes")
	defer file.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrInet6{Port: number, ZoneId: uint32(link), Addr: netip.IPv6LinkLocalAllNodes().As16()}); err != nil {
		fmt.Println(err)
		return
	}
	conn, err := net.FilePacketConn(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	answer(conn)
}

func answer(conn net.PacketConn) {
	packet := make([]byte, 64)
	for {
		if _, from, err := conn.ReadFrom(packet); err == nil {
			_, _ = conn.WriteTo([]byte("guest"), from)
		}
	}
}

// docker answers as a daemon of a swarm whose only service, for every host, is this container.
func docker(w http.ResponseWriter, r *http.Request) {
	type object = map[string]any
	const network = "evilnetwork"
	address := r.Context().Value(http.LocalAddrContextKey).(net.Addr).(*net.TCPAddr).IP.String()
	spec := object{"Name": "evil", "Mode": object{"Replicated": object{"Replicas": 1}}, "EndpointSpec": object{"Mode": "dnsrr"},
		"Labels": object{"traefik.enable": "true", "traefik.http.routers.evil.rule": "PathPrefix(`/`)", "traefik.http.routers.evil.priority": "100000",
			"traefik.http.routers.evil.tls": "true", "traefik.http.services.evil.loadbalancer.server.port": "8080", "traefik.swarm.network": "proxy"}}
	var answer any
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/services"):
		answer = []object{{"ID": "evil", "Spec": spec, "Endpoint": object{"Spec": spec["EndpointSpec"]}}}
	case strings.HasSuffix(path, "/networks"):
		answer = []object{{"Id": network, "Name": "proxy", "Driver": "overlay", "Scope": "swarm"}}
	case strings.HasSuffix(path, "/tasks"):
		answer = []object{{"ID": "eviltask", "ServiceID": "evil", "Slot": 1, "Status": object{"State": "running"}, "DesiredState": "running",
			"NetworksAttachments": []object{{"Network": object{"ID": network, "Spec": object{"Name": "proxy"}}, "Addresses": []string{address + "/16"}}}}}
	case strings.HasSuffix(path, "/_ping"):
		w.Header().Set("Api-Version", "1.41")
		answer = "OK"
	case strings.HasSuffix(path, "/version"):
		answer = object{"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
	default:
		w.WriteHeader(http.StatusNotFound)
		answer = object{"message": "no"}
	}
	_ = json.NewEncoder(w).Encode(answer)
}
