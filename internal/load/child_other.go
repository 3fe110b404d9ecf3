//go:build !linux

package main

import "os/exec"

// tie can't do here what it does on Linux: Ctrl-C ends the children too, and who kills this process leaves them behind.
func tie(*exec.Cmd) {}
