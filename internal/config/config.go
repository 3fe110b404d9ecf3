// Package config gathers the settings that each package owns, from a YAML file and the environment.
//
// Start reading at [Load]. A setting is a field with a `yaml` and an `env` tag, in the package that uses it. To add one,
// add the field there and a line in config.yaml. Its type may be any that caarlos0/env knows.
package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
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

// Defaults is what holds where nothing is set.
func Defaults() Config {
	return Config{
		Server:  Server{ListenAddr: ":3000", BaseURL: "http://localhost:3000", RateLimit: "60/m"},
		Redis:   session.DefaultRedisConfig(),
		Session: session.DefaultConfig(),
	}
}

// Load reads the settings: the defaults, then the file, then the environment (as os.Environ gives it; a variable that is
// empty counts as not set, one that is a space as set to nothing), where NAME_FILE names a file that holds the value of
// NAME, used where NAME itself is not set. Its error joins all faults, one line each, naming the variable and the key.
func Load(path string, environ []string) (Config, error) {
	cfg := Defaults()
	if err := load(&cfg, path, environ); err != nil {
		return Config{}, err
	}
	cfg.Server.BaseURL = strings.TrimRight(cfg.Server.BaseURL, "/")
	cfg.Logto.SecretAgain = func() (auth.Secret, error) { // a file that holds it may have changed since
		again, err := Load(path, environ)
		return again.Logto.AppSecret, err
	}
	return cfg, nil
}

// load reads any struct of sections. One that can Validate itself does; its errors begin with the key or field at fault.
func load(sections any, path string, environ []string) error {
	file, err := readFile(path)
	faults, all, variables, unread := unjoin(err), settings(sections), env.ToMap(environ), map[string]bool{}
	for _, s := range all {
		if err := s.read(file[s.section][s.key], variables); err != nil {
			faults, unread[s.env] = append(faults, err), true
		}
		if delete(file[s.section], s.key); len(file[s.section]) == 0 {
			delete(file, s.section)
		}
	}
	for section, keys := range file { // what is left would be a silent default
		if len(keys) == 0 {
			faults = append(faults, fmt.Errorf("%s: %s is no section", path, section))
		}
		for key := range keys {
			faults = append(faults, fmt.Errorf("%s: %s.%s is no setting", path, section, key))
		}
	}
	for section, value := range reflect.ValueOf(sections).Elem().Fields() {
		checked, ok := value.Addr().Interface().(interface{ Validate() error })
		if !ok {
			continue
		}
		for _, err := range unjoin(checked.Validate()) {
			about, problem, _ := strings.Cut(err.Error(), " ")
			i := slices.IndexFunc(all, func(s setting) bool {
				return s.section == section.Tag.Get("yaml") && (s.key == about || s.field.Name == about)
			})
			if i < 0 {
				faults = append(faults, err)
			} else if s := all[i]; !unread[s.env] { // else it has its line already
				faults = append(faults, s.fault(problem))
			}
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return slices.DeleteFunc([]error{err}, func(err error) bool { return err == nil })
}

func readFile(path string) (sections map[string]map[string]any, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && path == DefaultPath {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all map[string]any
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&all); err != nil && !errors.Is(err, io.EOF) {
		line, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
		return nil, fmt.Errorf("%s: %s", path, line)
	}
	var faults []error
	if !errors.Is(decoder.Decode(new(any)), io.EOF) || strings.Count("\n"+string(data), "\n---") > 1 { // an empty one is EOF, too
		faults = append(faults, fmt.Errorf("%s has a second document after ---; only the first is read", path))
	}
	sections = make(map[string]map[string]any)
	for section, value := range all {
		keys, ok := value.(map[string]any)
		if !ok && value != nil {
			faults = append(faults, fmt.Errorf("%s: %s must be a section, with a line for each setting", path, section))
			continue
		}
		sections[section] = keys
	}
	return sections, errors.Join(faults...)
}

// setting is one field of a section.
type setting struct {
	section, key, env string
	field             reflect.StructField
	value             reflect.Value // in the Config
}

func settings(sections any) (all []setting) {
	for section, value := range reflect.ValueOf(sections).Elem().Fields() {
		for field, value := range value.Fields() {
			if name := field.Tag.Get("env"); name != "" {
				all = append(all, setting{section.Tag.Get("yaml"), field.Tag.Get("yaml"), name, field, value})
			}
		}
	}
	return all
}

// fault never gets the value: it may be a secret.
func (s setting) fault(problem string) error {
	return fmt.Errorf("%s (%s.%s in %s) %s", s.env, s.section, s.key, DefaultPath, problem)
}

// read sets the field to what the environment says, or else the file.
func (s setting) read(inFile any, variables map[string]string) error {
	fromFile, problem := s.text(inFile)
	if problem != "" {
		return s.fault(problem)
	}
	text, path := variables[s.env], variables[s.env+"_FILE"]
	if text == "" && path != "" {
		data, err := os.ReadFile(path)
		if err != nil { // the cause alone: a secret may stand where the name of its file belongs
			return s.fault(fmt.Sprintf("can't be read, by %s_FILE: %v", s.env, errors.Unwrap(err)))
		}
		text = strings.TrimSpace(string(data))
	}
	if text == "" && inFile == nil {
		return nil
	}
	text = strings.TrimSpace(cmp.Or(text, fromFile))
	if s.field.Type.Kind() == reflect.Slice {
		text, s.field.Tag = strings.Join(strings.Fields(text), " "), `envSeparator:" " `+s.field.Tag
	}
	// In a struct of its own: there, an empty text gives the zero value and not the default.
	alone := reflect.New(reflect.StructOf([]reflect.StructField{s.field}))
	if err := env.ParseWithOptions(alone.Interface(), env.Options{Environment: map[string]string{s.env: text}}); err != nil {
		return s.fault("must be " + cmp.Or(forms[s.field.Type.String()], "a valid "+s.field.Type.String()))
	}
	s.value.Set(alone.Elem().Field(0))
	return nil
}

var forms = map[string]string{
	"time.Duration": "a duration such as 90s, 30m or 24h", "url.URL": "a URL",
	"bool": "true or false", "int": "a whole number", "float64": "a number",
}

// text returns a value of the file as it would stand in the environment, or says what is wrong.
func (s setting) text(value any) (text, problem string) {
	want, problem := s.field.Type, "must be a single text, in quotes if it is a number" // to YAML, 0123 is the number 83
	items, ok := value.([]any)
	if want.Kind() == reflect.Slice {
		want, problem = want.Elem(), "must be a list of texts, in quotes where they are numbers"
	} else {
		items, ok = []any{value}, true
	}
	for _, item := range items {
		kind := reflect.ValueOf(item).Kind()
		ok = ok && kind != reflect.Map && kind != reflect.Slice && (kind == reflect.String || want.Kind() != reflect.String)
		text += fmt.Sprint(item, " ")
	}
	if !ok && value != nil {
		return "", problem
	}
	return text, ""
}
