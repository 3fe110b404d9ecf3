package session

import (
	"encoding/json"
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
		want []string // keys at fault
	}{
		{DefaultConfig(), nil},
		{DefaultRedisConfig(), nil},
		{Config{IdleTimeout: time.Second, AbsoluteTimeout: time.Second}, nil},
		{Config{}, []string{"idle_timeout"}},
		{Config{IdleTimeout: -time.Hour, AbsoluteTimeout: -2 * time.Hour}, []string{"idle_timeout", "absolute_timeout"}},
		{Config{IdleTimeout: 2 * time.Hour, AbsoluteTimeout: time.Hour}, []string{"absolute_timeout"}},
		{Config{IdleTimeout: time.Hour, AbsoluteTimeout: time.Hour, Key: Secret(NewKey() + " " + NewKey())}, nil},
		{Config{IdleTimeout: time.Hour, AbsoluteTimeout: time.Hour, Key: Secret(NewKey() + " secret")}, []string{"key"}},
		{Config{IdleTimeout: time.Hour, AbsoluteTimeout: time.Hour, Key: Secret(NewKey() + "=")}, []string{"key"}},
		{RedisConfig{}, []string{"url"}},
		{RedisConfig{"redis://user:s#cret@localhost"}, []string{"url"}},
	} {
		var got []string
		err := tt.cfg.Validate()
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				key, _, _ := strings.Cut(line, " ")
				got = append(got, key)
			}
		}
		if !slices.Equal(got, tt.want) || err != nil && strings.Contains(err.Error(), "cret") {
			t.Errorf("%v: %v, want faults of %v", tt.cfg, err, tt.want)
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
