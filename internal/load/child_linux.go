package main

import (
	"os/exec"
	"syscall"
)

// tie keeps a child from the terminal's Ctrl-C, and lets it end with this process, however that ends.
func tie(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
