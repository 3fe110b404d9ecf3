package config

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"net/url"
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

	// SourceDir is no setting but the flag -dev: the folder of the source, to read templates, messages and static files from
	// at each request. If it is empty, they are as they were at build time.
	SourceDir string `yaml:"-"`
}

// Validate returns every fault, joined.
func (s Server) Validate() error {
	_, badProxies := s.Proxies()
	_, badLimit := s.Limit()
	faults := []error{badProxies, badLimit}
	_, port, err := net.SplitHostPort(s.ListenAddr)
	if _, unknown := net.LookupPort("tcp", port); err != nil || port == "" || unknown != nil { // a number, or a name such as http
		faults = append(faults, errors.New("listen_addr must look like :3000 or 127.0.0.1:3000, with a port up to 65535"))
	}
	isWeb := strings.HasPrefix(s.BaseURL, "https://") || strings.HasPrefix(s.BaseURL, "http://") // in lower case: others look for it
	if u, err := url.Parse(s.BaseURL); err != nil || !isWeb || u.Hostname() == "" || !isPort(u.Port()) || u.User != nil || strings.Trim(u.Path, "/") != "" || strings.ContainsAny(s.BaseURL, "?#") {
		faults = append(faults, errors.New("base_url must be an http or https URL without a path, such as https://www.example.com, with a port up to 65535 if it has one"))
	}
	if s.ShutdownDelay < 0 {
		faults = append(faults, errors.New("shutdown_delay must not be negative"))
	}
	return errors.Join(faults...)
}

// isPort reports whether a URL may have the port; empty is that of its scheme.
func isPort(text string) bool {
	_, err := strconv.ParseUint(cmp.Or(text, "80"), 10, 16)
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
			return nil, errors.New("trusted_proxies must be addresses and networks such as 10.1.2.3 or 10.0.0.0/8")
		}
		networks = append(networks, network)
	}
	return networks, nil
}

// Limit returns what RateLimit says: requests for each second, minute or hour; zero if there is no limit.
func (s Server) Limit() (redis_rate.Limit, error) {
	if s.RateLimit == "" || s.RateLimit == "off" {
		return redis_rate.Limit{}, nil
	}
	text, unit, _ := strings.Cut(s.RateLimit, "/")
	count, err := strconv.ParseUint(text, 10, 30)
	period := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	if err != nil || count == 0 || period == 0 {
		return redis_rate.Limit{}, errors.New("rate_limit must look like 10/s, 60/m or 1000/h, or be off")
	}
	return redis_rate.Limit{Rate: int(count), Burst: int(count), Period: period}, nil
}
