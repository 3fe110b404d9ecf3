package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
)

func TestMain(m *testing.M) {
	logging.Disable() // go-redis tells of every connection that our outages cost
	os.Exit(m.Run())
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		cfg  interface{ Validate() error }
		want []string // fields at fault
	}{
		{DefaultConfig(), nil},
		{DefaultRedisConfig(), nil},
		{Config{IdleTimeout: time.Second, AbsoluteTimeout: time.Second}, nil},
		{Config{}, []string{"IdleTimeout"}},
		{Config{IdleTimeout: -time.Hour, AbsoluteTimeout: -2 * time.Hour}, []string{"IdleTimeout", "AbsoluteTimeout"}},
		{Config{IdleTimeout: 2 * time.Hour, AbsoluteTimeout: time.Hour}, []string{"AbsoluteTimeout"}},
		{Config{IdleTimeout: time.Hour, AbsoluteTimeout: time.Hour, Key: Secret(NewKey() + " " + NewKey())}, nil},
		{Config{IdleTimeout: time.Hour, AbsoluteTimeout: time.Hour, Key: Secret(NewKey() + " secret")}, []string{"Key"}},
		{Config{IdleTimeout: time.Hour, AbsoluteTimeout: time.Hour, Key: Secret(NewKey() + "=")}, []string{"Key"}},
		{RedisConfig{}, []string{"URL"}},
		{RedisConfig{"redis://user:s#cret@localhost"}, []string{"URL"}},
	} {
		var got []string
		err := tt.cfg.Validate()
		for err := range faults(err) {
			got = append(got, err.Setting())
		}
		if !slices.Equal(got, tt.want) || err != nil && strings.Contains(err.Error(), "cret") {
			t.Errorf("%v: %v, want faults of %v", tt.cfg, err, tt.want)
		}
	}
}

// faults goes through joined errors as the configuration does.
func faults(err error) func(yield func(*Fault) bool) {
	return func(yield func(*Fault) bool) {
		var fault *Fault
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, err := range joined.Unwrap() {
				if errors.As(err, &fault) && !yield(fault) {
					return
				}
			}
		} else if errors.As(err, &fault) {
			yield(fault)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	cfg := struct {
		Redis   RedisConfig
		Session Config
	}{RedisConfig{"redis://user:secret@localhost"}, Config{Key: "secret"}}
	asJSON, err := json.Marshal(cfg)
	must(t, err)
	for _, text := range []string{
		fmt.Sprint(cfg), fmt.Sprintf("%v %+v %#v %s %q %d", cfg, cfg, cfg, cfg, cfg, cfg), string(asJSON),
		cfg.Redis.URL.LogValue().String(), fmt.Sprintf("%#v %q", cfg.Session.Key, cfg.Session.Key),
	} {
		if strings.Contains(text, "secret") {
			t.Errorf("printed: %s", text)
		}
	}
}
