// Go's net/http: hello, uploads, and the files of a directory.
//
//	go build -o server server.go && ./server PORT [DIRECTORY]
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

// hello responds with five bytes of text.
func hello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "hello")
}

// upload reads the whole body, and responds with its length in bytes.
func upload(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, len(body))
}

func main() {
	mux := http.NewServeMux()
	if len(os.Args) > 2 {
		mux.Handle("/", http.FileServer(http.Dir(os.Args[2])))
	} else {
		mux.HandleFunc("/", hello)
		mux.HandleFunc("/upload", upload)
	}
	server := http.Server{Addr: "127.0.0.1:" + os.Args[1], Handler: mux, IdleTimeout: 120 * time.Second}
	log.Fatal(server.ListenAndServe())
}
