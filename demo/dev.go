package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"example.com/logto-gin-starter/internal/config"
)

// develop runs the application in this folder with -dev, and builds and starts it again when its code has changed. While
// that does not compile, the last one goes on. Provider and Redis are in this process, so nobody is signed out.
func develop(ctx context.Context, environ []string) error {
	dir, err := os.MkdirTemp("", "demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	stop := func() {}
	defer func() { stop() }()
	for n := 0; ctx.Err() == nil; n++ {
		seen, program := sources(), filepath.Join(dir, fmt.Sprintf("app%d.exe", n)) // a new file: Windows locks the one that runs
		build := exec.CommandContext(ctx, "go", "build", "-o", program, ".")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if build.Run() == nil { // else the compiler has said why
			stop()
			stop = launch(program, environ)
		}
		for ctx.Err() == nil && sources() == seen {
			time.Sleep(200 * time.Millisecond)
		}
	}
	return nil
}

// launch runs the application until stop is called, or until it ends by itself.
func launch(program string, environ []string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	app := exec.CommandContext(ctx, program, "-dev")
	app.Env, app.Stdout, app.Stderr = environ, os.Stdout, os.Stderr
	app.Cancel = func() error { return app.Process.Signal(os.Interrupt) }
	app.WaitDelay = time.Second // then it is killed
	var running sync.WaitGroup
	running.Go(func() {
		if err := app.Run(); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "demo: the application ended:", err)
		}
	})
	return func() { cancel(); running.Wait() }
}

// sources tells by names and times whether code or settings have changed.
func sources() (state string) {
	_ = filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && name != "." && strings.HasPrefix(name, ".") {
			return filepath.SkipDir
		}
		isCode := filepath.Ext(name) == ".go" && !strings.HasSuffix(name, "_test.go") || name == "go.mod"
		if err != nil || !isCode && name != config.DefaultPath {
			return nil // what is gone is not in the state
		}
		if info, err := entry.Info(); err == nil {
			state += name + info.ModTime().String()
		}
		return nil
	})
	return state
}
