package config

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-redis/redis_rate/v10"
)

// Server is where the application is found, what is in front of it, and how it ends.
type Server struct {
	// ListenAddr is what net.Listen takes.
	ListenAddr string `yaml:"listen_addr" env:"LISTEN_ADDR"`
	// BaseURL is the public address, without a path: what is registered in Logto is derived from it, never from a request.
	BaseURL string `yaml:"base_url" env:"BASE_URL"`
	// TrustedProxies are the addresses and networks (CIDR) of proxies in front, whose X-Forwarded-For is believed.
	TrustedProxies []string `yaml:"trusted_proxies" env:"TRUSTED_PROXIES"`
	// RateLimit is how often one address may begin or end a sign-in, or call what Logto calls; see [Server.Limit].
	RateLimit string `yaml:"rate_limit" env:"RATE_LIMIT"`
	// ShutdownDelay is how long everything is still served after the order to stop, while /readyz says 503.
	ShutdownDelay time.Duration `yaml:"shutdown_delay" env:"SHUTDOWN_DELAY"`
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
	if _, err := s.Proxies(); err != nil {
		faults = append(faults, err)
	}
	if _, err := s.Limit(); err != nil {
		faults = append(faults, err)
	}
	if s.ShutdownDelay < 0 {
		faults = append(faults, &fault{"ShutdownDelay", "must not be negative"})
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

// Proxies returns TrustedProxies as networks.
func (s Server) Proxies() (networks []netip.Prefix, err error) {
	for _, text := range s.TrustedProxies {
		network, err := netip.ParsePrefix(text)
		if address, isAddress := netip.ParseAddr(text); isAddress == nil {
			network, err = address.WithZone("").Prefix(address.BitLen())
		}
		if err != nil {
			return nil, &fault{"TrustedProxies", "must be addresses and networks such as 10.1.2.3 or 10.0.0.0/8"}
		}
		networks = append(networks, network)
	}
	return networks, nil
}

var rate = regexp.MustCompile(`^([1-9][0-9]{0,8})/([smh])$`)

// Limit returns what RateLimit says: requests for each second, minute or hour; zero if there is no limit.
func (s Server) Limit() (redis_rate.Limit, error) {
	parts := rate.FindStringSubmatch(s.RateLimit)
	if s.RateLimit == "" || s.RateLimit == "off" {
		return redis_rate.Limit{}, nil
	}
	if parts == nil {
		return redis_rate.Limit{}, &fault{"RateLimit", "must look like 10/s, 60/m or 1000/h, or be off"}
	}
	count, _ := strconv.Atoi(parts[1]) // digits, by the expression
	period := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[parts[2]]
	return redis_rate.Limit{Rate: count, Burst: count, Period: period}, nil
}

type fault struct{ field, problem string }

func (f *fault) Error() string   { return f.problem }
func (f *fault) Setting() string { return f.field }
