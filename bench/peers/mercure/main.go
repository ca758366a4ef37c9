// Mercure's hub with its local transport, in memory only: POST /publish sends the body to all subscribers of one topic.
//
// Its own publishing wants a form and a JWT; to hand the update to its transport directly costs it less than that.
package main

import (
	"io"
	"log"
	"net/http"
	"os"

	"github.com/dunglas/mercure"
)

func main() {
	transport, err := mercure.NewLocalTransport(nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	hub, err := mercure.NewHub(mercure.WithTransport(transport), mercure.WithAnonymous())
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/.well-known/mercure", hub)
	http.HandleFunc("/publish", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		event := mercure.Event{Data: string(body), Type: "stage_change"}
		update := &mercure.Update{Topics: []string{"orders"}, Event: event}
		if err := transport.Dispatch(update); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, update.ID)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
