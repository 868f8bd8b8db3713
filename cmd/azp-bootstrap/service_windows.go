package main

import (
	"context"

	"github.com/kardianos/service"
)

// asService runs the daemon under Windows' service control manager, which wants a conversation.
func asService(ctx context.Context, run func(context.Context) error) error {
	if service.Interactive() {
		return run(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &program{run: func() error { return run(ctx) }, cancel: cancel, done: make(chan error, 1)}
	s, err := service.New(p, &service.Config{Name: "azp-bootstrap"})
	if err != nil {
		cancel()
		return err
	}
	if err := s.Run(); err != nil {
		return err
	}
	return <-p.done
}

type program struct {
	run    func() error
	cancel func()
	done   chan error
}

func (p *program) Start(service.Service) error {
	go func() { p.done <- p.run() }()
	return nil
}

func (p *program) Stop(service.Service) error {
	p.cancel()
	return nil
}
