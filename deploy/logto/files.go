package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// folder is the private volume that the application reads too, as the same user.
type folder string

// load returns a file's content; a file that is not there is empty.
func (f folder) load(name string) string {
	data, _ := os.ReadFile(filepath.Join(string(f), name)) // what can't be read is made anew, and save says why it can't
	return strings.TrimSpace(string(data))
}

// save writes a file in one step, so that nobody ever reads a half of it.
func (f folder) save(name, value string) error {
	if value == f.load(name) {
		return nil
	}
	file, err := os.CreateTemp(string(f), "."+name+"-*") // for this user's eyes only
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(value + "\n")
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), filepath.Join(string(f), name))
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}
