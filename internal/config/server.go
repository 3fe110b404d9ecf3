package config

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// Server is where the application is found.
type Server struct {
	// ListenAddr is what net.Listen takes.
	ListenAddr string `yaml:"listen_addr" env:"LISTEN_ADDR"`
	// BaseURL is the public address, without a path: what is registered in Logto is derived from it, never from a request.
	BaseURL string `yaml:"base_url" env:"BASE_URL"`
}

// Validate returns every fault, joined.
func (s Server) Validate() error {
	var faults []error
	if !isListenAddr(s.ListenAddr) {
		faults = append(faults, &fault{"ListenAddr", "must look like :3000 or 127.0.0.1:3000, with a port up to 65535"})
	}
	isWeb := strings.HasPrefix(s.BaseURL, "https://") || strings.HasPrefix(s.BaseURL, "http://") // in lower case: others look for it
	if u, err := url.Parse(s.BaseURL); err != nil || !isWeb || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || strings.ContainsAny(s.BaseURL, "?#") {
		faults = append(faults, &fault{"BaseURL", "must be an http or https URL without a path, such as https://www.example.com"})
	}
	return errors.Join(faults...)
}

func isListenAddr(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return false
	}
	_, err = net.LookupPort("tcp", port) // a number, or a name such as http
	return err == nil
}

type fault struct{ field, problem string }

func (f *fault) Error() string   { return f.problem }
func (f *fault) Setting() string { return f.field }
