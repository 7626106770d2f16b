// Plays the device plugin of a GPU's maker, for tests on machines without a GPU.
//
// Each file of a folder of the node is a device, by the file's name. A file that is gone, cannot be read or says
// "broken" is a device that is not well. What a container was given it finds in NVIDIA_VISIBLE_DEVICES, as the real
// plugin says it too.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"maps"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const socket = "rackloom-gpu-stand-in.sock"

type plugin struct {
	api.UnimplementedDevicePluginServer
	folder   string
	interval time.Duration

	lock sync.Mutex
	seen map[string]bool // every device that there ever was, and whether it is well
}

// look reads the folder and says whether anything differs from last time.
func (p *plugin) look() bool {
	p.lock.Lock()
	defer p.lock.Unlock()
	now := make(map[string]bool, len(p.seen))
	for name := range p.seen {
		now[name] = false
	}
	entries, _ := os.ReadDir(p.folder) // a folder that is not there has no files
	for _, entry := range entries {
		if name := entry.Name(); !strings.HasPrefix(name, ".") && !entry.IsDir() {
			text, err := os.ReadFile(filepath.Join(p.folder, name))
			now[name] = err == nil && strings.TrimSpace(string(text)) != "broken"
		}
	}
	differs := !maps.Equal(now, p.seen)
	p.seen = now
	return differs
}

func (p *plugin) devices() *api.ListAndWatchResponse {
	p.lock.Lock()
	defer p.lock.Unlock()
	said := &api.ListAndWatchResponse{}
	for _, name := range slices.Sorted(maps.Keys(p.seen)) {
		health := api.Unhealthy
		if p.seen[name] {
			health = api.Healthy
		}
		said.Devices = append(said.Devices, &api.Device{ID: name, Health: health})
	}
	return said
}

func (p *plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	p.look()
	for {
		if err := stream.Send(p.devices()); err != nil {
			return err
		}
		for !p.look() {
			select {
			case <-stream.Context().Done():
				return nil
			case <-time.After(p.interval):
			}
		}
	}
}

func (p *plugin) Allocate(_ context.Context, asked *api.AllocateRequest) (*api.AllocateResponse, error) {
	said := &api.AllocateResponse{}
	for _, container := range asked.ContainerRequests {
		given := &api.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
		}
		said.ContainerResponses = append(said.ContainerResponses, given)
	}
	return said, nil
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// serve answers the kubelet until ctx ends, or the kubelet began anew and forgot all plugins.
func (p *plugin) serve(ctx context.Context, kubelet, resource string) error {
	own, other := filepath.Join(kubelet, socket), filepath.Join(kubelet, filepath.Base(api.KubeletSocket))
	if err := os.Remove(own); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", own)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, p)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	kubeletBefore, err := os.Stat(other)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient("unix://"+other, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	told, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request := &api.RegisterRequest{Version: api.Version, Endpoint: socket, ResourceName: resource}
	if _, err := api.NewRegistrationClient(connection).Register(told, request); err != nil {
		return err
	}
	log.Printf("%s: the kubelet knows of us", resource)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(p.interval):
		}
		if _, err := os.Stat(own); err != nil {
			return fmt.Errorf("the kubelet emptied its folder")
		}
		if now, err := os.Stat(other); err != nil || !os.SameFile(kubeletBefore, now) {
			return fmt.Errorf("the kubelet began anew")
		}
	}
}

func main() {
	resource := flag.String("resource", "nvidia.com/gpu", "what pods ask for")
	folder := flag.String("folder", "/run/rackloom-devices", "a file for each device")
	kubelet := flag.String("kubelet", filepath.Dir(api.KubeletSocket), "where the kubelet has its plugins' sockets")
	interval := flag.Duration("interval", 500*time.Millisecond, "how often files are looked at")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	played := &plugin{folder: *folder, interval: *interval, seen: map[string]bool{}}
	for ctx.Err() == nil {
		if err := played.serve(ctx, *kubelet, *resource); err != nil {
			log.Print(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
