module rackloom.example/upstream/lws

go 1.25.0

require sigs.k8s.io/lws v0.8.0 // indirect
