package session

import (
	"errors"
	"log/slog"
	"time"
)

// Config is how long a session lasts.
type Config struct {
	// IdleTimeout ends a session that nobody uses.
	IdleTimeout time.Duration `yaml:"idle_timeout" env:"SESSION_IDLE_TIMEOUT"`
	// AbsoluteTimeout ends it however much it is used.
	AbsoluteTimeout time.Duration `yaml:"absolute_timeout" env:"SESSION_ABSOLUTE_TIMEOUT"`
}

// DefaultConfig returns the defaults: a day unused, two weeks in all.
func DefaultConfig() Config {
	return Config{IdleTimeout: 24 * time.Hour, AbsoluteTimeout: 14 * 24 * time.Hour}
}

// Validate returns every [Fault] of the settings, joined.
func (c Config) Validate() error {
	var faults []error
	if c.IdleTimeout < time.Second {
		faults = append(faults, &Fault{"IdleTimeout", "must be one second or more"})
	}
	if c.AbsoluteTimeout < c.IdleTimeout {
		faults = append(faults, &Fault{"AbsoluteTimeout", "must not be shorter than the idle time-out"})
	}
	return errors.Join(faults...)
}

// RedisConfig is where Redis is. [Open] says which URLs there are.
type RedisConfig struct {
	// URL may contain a password, so it is never printed.
	URL string `yaml:"url" env:"REDIS_URL"`
}

// DefaultRedisConfig returns the default: a Redis on this machine.
func DefaultRedisConfig() RedisConfig { return RedisConfig{URL: "redis://localhost:6379/0"} }

// Validate returns a [Fault] if Open could not use the URL.
func (c RedisConfig) Validate() error {
	_, err := parse(c.URL)
	return err
}

// String hides the URL.
func (RedisConfig) String() string { return "[Redis URL]" }

// GoString hides the URL.
func (c RedisConfig) GoString() string { return c.String() }

// LogValue hides the URL.
func (c RedisConfig) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Fault is what is wrong with one setting. Its text never quotes the value.
type Fault struct{ field, text string }

// Error says what is wrong.
func (f *Fault) Error() string { return f.text }

// Setting names the field at fault.
func (f *Fault) Setting() string { return f.field }
