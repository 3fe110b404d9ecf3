package session

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config is how long a session lasts, and how it is sealed.
type Config struct {
	// IdleTimeout ends a session that nobody uses.
	IdleTimeout time.Duration `yaml:"idle_timeout" env:"SESSION_IDLE_TIMEOUT"`
	// AbsoluteTimeout ends it however much it is used.
	AbsoluteTimeout time.Duration `yaml:"absolute_timeout" env:"SESSION_ABSOLUTE_TIMEOUT"`
	// Revalidate is how often the provider is asked again who it is; if 0, only when [Store.MarkDue] says so. It is the
	// application's to keep to.
	Revalidate time.Duration `yaml:"revalidate" env:"SESSION_REVALIDATE"`
	// Key is one key from [NewKey], or several with spaces between: the first seals, all open. An old one can be left out
	// when the sessions of its time have ended, after AbsoluteTimeout.
	Key Secret `yaml:"key" env:"SESSION_KEY"`
}

// DefaultConfig returns the defaults: a day unused, two weeks in all, and what the provider said at most five minutes ago.
func DefaultConfig() Config {
	return Config{IdleTimeout: 24 * time.Hour, AbsoluteTimeout: 14 * 24 * time.Hour, Revalidate: 5 * time.Minute}
}

// Validate returns every fault of the settings, joined. Each begins with a setting's key, and never quotes a value.
func (c Config) Validate() error {
	var faults []error
	if c.IdleTimeout < time.Second {
		faults = append(faults, errors.New("idle_timeout must be one second or more"))
	}
	if c.AbsoluteTimeout < c.IdleTimeout {
		faults = append(faults, errors.New("absolute_timeout must not be shorter than the idle time-out"))
	}
	if c.Revalidate != 0 && c.Revalidate < time.Second {
		faults = append(faults, errors.New("revalidate must be one second or more, or 0 for never"))
	}
	if _, err := parseKeys(string(c.Key)); err != nil {
		faults = append(faults, errors.New("key must be a key that `-new-session-key` printed, or several with spaces between"))
	}
	return errors.Join(faults...)
}

// RedisConfig is where Redis is. [Open] says which URLs there are.
type RedisConfig struct {
	URL Secret `yaml:"url" env:"REDIS_URL"` // it may contain a password
}

// DefaultRedisConfig returns the default: a Redis on this machine.
func DefaultRedisConfig() RedisConfig { return RedisConfig{URL: "redis://localhost:6379/0"} }

// Validate returns a fault if Open could not use the URL.
func (c RedisConfig) Validate() error {
	_, err := parse(string(c.URL))
	return err
}

// A Secret is a string that does not show itself in logs, by fmt, or as JSON. Convert it to a string to use it.
type Secret string

const redacted = "[redacted]"

func (Secret) String() string               { return redacted }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) } // %d and %#v too
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
