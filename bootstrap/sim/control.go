package sim

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// Control answers azp-sim's own commands.
func (s *Sim) Control() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /log", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		reply(w, http.StatusOK, s.log)
	})
	m.HandleFunc("GET /agents", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Agents()) })
	m.HandleFunc("POST /apply", func(w http.ResponseWriter, r *http.Request) {
		n, err := Load(r.FormValue("file"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := s.Apply(n); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	m.HandleFunc("GET /events", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		reply(w, http.StatusOK, append([]ScheduledEvent{}, s.events...))
	})
	m.HandleFunc("POST /events", func(w http.ResponseWriter, r *http.Request) {
		in, err := time.ParseDuration(r.FormValue("in")) // fills r.Form
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, http.StatusOK, s.Schedule(r.Form["vm"], r.FormValue("type"), in))
	})
	m.HandleFunc("POST /cancel-event", func(w http.ResponseWriter, r *http.Request) {
		if !s.Cancel(r.FormValue("id")) {
			http.Error(w, "there is no such event, or it has started", http.StatusConflict)
		}
	})
	m.HandleFunc("GET /fates", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.Fates()) })
	m.HandleFunc("GET /jobs", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		reply(w, http.StatusOK, append([]*Job{}, s.jobs...))
	})
	m.HandleFunc("POST /jobs", func(w http.ResponseWriter, r *http.Request) {
		takes, err := time.ParseDuration(r.FormValue("takes"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if r.FormValue("wait") == "true" {
			reply(w, http.StatusOK, s.Queue(r.FormValue("agent"), r.FormValue("pool"), r.FormValue("name"), r.FormValue("run"),
				takes.Seconds()))
			return
		}
		j, problem := s.queue(r.FormValue("agent"), r.FormValue("name"), r.FormValue("run"), takes.Seconds())
		if problem != "" {
			http.Error(w, problem, http.StatusConflict)
			return
		}
		reply(w, http.StatusOK, j)
	})
	done := func(w http.ResponseWriter, found bool, what string) {
		if !found {
			http.Error(w, "no such "+what, http.StatusNotFound)
		}
	}
	m.HandleFunc("POST /delete", func(w http.ResponseWriter, r *http.Request) {
		done(w, s.remove(r.FormValue("name"), r.FormValue("leaveInPool") == "true"), "agent")
	})
	m.HandleFunc("POST /age", func(w http.ResponseWriter, r *http.Request) {
		offline, err := time.ParseDuration(r.FormValue("offline"))
		made, err2 := time.ParseDuration(r.FormValue("made"))
		if err = errors.Join(err, err2); err == nil {
			err = s.Age(r.FormValue("name"), offline, made)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	m.HandleFunc("POST /populate", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.FormValue("agents"))
		offline, err2 := time.ParseDuration(r.FormValue("offline"))
		if err = errors.Join(err, err2); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		done(w, s.Populate(r.FormValue("pool"), n, offline), "pool")
	})
	m.HandleFunc("POST /enable", func(w http.ResponseWriter, r *http.Request) {
		done(w, s.Enable(r.FormValue("name"), r.FormValue("enabled") == "true"), "agent")
	})
	m.HandleFunc("POST /refresh", func(w http.ResponseWriter, r *http.Request) {
		done(w, s.Refresh(r.FormValue("name"), r.FormValue("version")), "agent")
	})
	m.HandleFunc("POST /rename", func(w http.ResponseWriter, r *http.Request) {
		done(w, s.Rename(r.FormValue("kind"), r.FormValue("old"), r.FormValue("new")), r.FormValue("kind"))
	})
	m.HandleFunc("POST /set-secret", func(w http.ResponseWriter, r *http.Request) {
		var expires time.Time
		var err error
		if in := r.FormValue("expiresIn"); in != "" {
			var d time.Duration
			d, err = time.ParseDuration(in)
			expires = time.Now().Add(d).UTC().Truncate(time.Second)
		}
		if err == nil {
			err = s.SetSecret(r.FormValue("vault"), r.FormValue("name"), r.FormValue("value"), expires,
				r.FormValue("disabled") == "true", r.FormValue("rotate") == "true")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	m.HandleFunc("POST /delete-target", func(w http.ResponseWriter, r *http.Request) {
		done(w, s.DeleteTarget(r.FormValue("kind"), r.FormValue("name")), r.FormValue("kind"))
	})
	return m
}
