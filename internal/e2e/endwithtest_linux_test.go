package e2e

import (
	"os/exec"
	"syscall"
)

// endWithTest lets a process end with this one, however that ends.
func endWithTest(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
