module rackloom.example/upstream/volcano

go 1.25.0

require volcano.sh/volcano v1.15.0 // indirect
