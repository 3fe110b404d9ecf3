// Package config gathers the settings that each package owns, from a YAML file and the environment.
//
// Start reading at [Load]. A setting is a field with a `yaml` and an `env` tag, in the package that uses it; to add one,
// add the field there and a line in config.yaml.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"example.com/logto-gin-starter/auth"
	"example.com/logto-gin-starter/internal/session"
)

// DefaultPath is the file that need not exist.
const DefaultPath = "config.yaml"

// Config is all settings, by the sections of the file.
type Config struct {
	Server  Server              `yaml:"server"`
	Logto   auth.Config         `yaml:"logto"`
	Redis   session.RedisConfig `yaml:"redis"`
	Session session.Config      `yaml:"session"`
}

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

// Defaults is what holds where nothing is set.
func Defaults() Config {
	return Config{
		Server:  Server{ListenAddr: ":3000", BaseURL: "http://localhost:3000"},
		Redis:   session.DefaultRedisConfig(),
		Session: session.DefaultConfig(),
	}
}

// Load reads the settings: the defaults, then the file, then the environment (as os.Environ gives it; a variable that is
// empty counts as not set, one that is a space as set to nothing), where NAME_FILE names a file that holds the value of
// NAME, used where NAME itself is not set. Its error joins all faults, one line each, naming the variable and the key.
func Load(path string, environ []string) (Config, error) {
	cfg := Defaults()
	all := settings(&cfg)
	faults := slices.Concat(readFile(path, all), readEnvironment(environ, all))
	faults = append(faults, slices.DeleteFunc(validate(cfg, all), func(err error) bool {
		name, _, _ := strings.Cut(err.Error(), " ") // what could not be read has its line already
		return slices.ContainsFunc(faults, func(known error) bool { return strings.HasPrefix(known.Error(), name+" ") })
	})...)
	if len(faults) > 0 {
		return Config{}, errors.Join(faults...)
	}
	cfg.Server.BaseURL = strings.TrimRight(cfg.Server.BaseURL, "/")
	cfg.Logto.SecretAgain = func() (auth.Secret, error) { // a file that holds it may have changed since
		again, err := Load(path, environ)
		return again.Logto.AppSecret, err
	}
	return cfg, nil
}

// setting is one field of a section.
type setting struct {
	section, key, env string
	field             string        // in Go
	value             reflect.Value // in the Config
}

func settings(cfg *Config) []setting {
	var all []setting
	for section, value := range reflect.ValueOf(cfg).Elem().Fields() {
		for field, value := range value.Fields() {
			if env := field.Tag.Get("env"); env != "" {
				all = append(all, setting{section.Tag.Get("yaml"), field.Tag.Get("yaml"), env, field.Name, value})
			}
		}
	}
	return all
}

func (s setting) fault(problem string) error {
	return fmt.Errorf("%s (%s.%s in %s) %s", s.env, s.section, s.key, DefaultPath, problem)
}

// set gives the field a value from a text. Its error never holds the text.
func (s setting) set(text string) error {
	switch field := s.value.Addr().Interface().(type) {
	case *time.Duration:
		life, err := time.ParseDuration(text)
		if err != nil {
			return s.fault("must be a duration such as 90s, 30m or 24h")
		}
		*field = life
	case *[]string:
		*field = strings.Fields(text)
	case *bool:
		on, err := strconv.ParseBool(text)
		if err != nil {
			return s.fault("must be true or false")
		}
		*field = on
	default:
		s.value.SetString(text)
	}
	return nil
}

// readFile takes over what the file says; a key that nobody knows is a fault, not a silent default.
func readFile(path string, all []setting) (faults []error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && path == DefaultPath {
		return nil
	}
	if err != nil {
		return []error{err}
	}
	var file map[string]map[string]any
	if err := yaml.Unmarshal(data, &file); err != nil {
		return []error{fmt.Errorf("%s: %s", path, firstLine(yaml.FormatError(err, false, false)))}
	}
	for section, keys := range file {
		for key, value := range keys {
			i := slices.IndexFunc(all, func(s setting) bool { return s.section == section && s.key == key })
			if i < 0 {
				faults = append(faults, fmt.Errorf("%s: %s.%s is no setting", path, section, key))
			} else if err := all[i].setYAML(value); err != nil {
				faults = append(faults, err)
			}
		}
		if !slices.ContainsFunc(all, func(s setting) bool { return s.section == section }) && len(keys) == 0 {
			faults = append(faults, fmt.Errorf("%s: %s is no section", path, section))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return faults
}

func (s setting) setYAML(value any) error {
	if value == nil { // the key alone
		return nil
	}
	if list, isList := s.value.Addr().Interface().(*[]string); isList {
		items, ok := value.([]any)
		texts := make([]string, len(items))
		for i, item := range items {
			text, isText := item.(string)
			texts[i], ok = text, ok && isText
		}
		if !ok {
			return s.fault("must be a list of texts, in quotes where they are numbers")
		}
		*list = texts
		return nil
	}
	if on, isBool := value.(bool); isBool {
		value = strconv.FormatBool(on)
	}
	text, ok := value.(string) // to YAML, 0123 is the number 83
	if !ok {
		return s.fault("must be a single text, in quotes if it is a number")
	}
	return s.set(text)
}

func readEnvironment(environ []string, all []setting) (faults []error) {
	env := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	for _, s := range all {
		text, file := env[s.env], env[s.env+"_FILE"]
		if text == "" && file != "" {
			data, err := os.ReadFile(file)
			if err != nil {
				// The cause alone: a secret may stand where the name of its file belongs.
				faults = append(faults, s.fault(fmt.Sprintf("can't be read, by %s_FILE: %v", s.env, errors.Unwrap(err))))
				continue
			}
			text = strings.TrimSpace(string(data))
		}
		if text == "" {
			continue
		}
		if err := s.set(strings.TrimSpace(text)); err != nil {
			faults = append(faults, err)
		}
	}
	return faults
}

// validate asks each package about its settings.
func validate(cfg Config, all []setting) (faults []error) {
	sections := map[string]interface{ Validate() error }{
		"server": cfg.Server, "logto": cfg.Logto, "redis": cfg.Redis, "session": cfg.Session,
	}
	for section, s := range sections {
		for _, err := range unjoin(s.Validate()) {
			faults = append(faults, locate(err, section, all))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return faults
}

// locate names the setting that an error of a package's is about.
func locate(err error, section string, all []setting) error {
	about, ok := err.(interface{ Setting() string })
	if !ok {
		return fmt.Errorf("%s: %w", section, err)
	}
	for _, s := range all {
		if s.section == section && s.field == about.Setting() {
			return s.fault(strings.TrimPrefix(err.Error(), s.field+" "))
		}
	}
	return fmt.Errorf("%s: %w", section, err)
}

func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}
