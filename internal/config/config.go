// Package config gathers the settings that each package owns, from a YAML file and the environment.
//
// Start reading at [Load]. A setting is a field with a `yaml` and an `env` tag, in the package that uses it; to add one,
// add the field there and a line in config.yaml. Its type may be any that caarlos0/env knows.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

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

// load reads any struct of sections, each of which can Validate itself.
func load(sections any, path string, environ []string) error {
	all := settings(sections)
	texts, faults := readFile(path, all)
	faults = append(faults, readEnvironment(environ, all, texts)...)
	var invalid []error
	for section, value := range reflect.ValueOf(sections).Elem().Fields() {
		owner := value.Addr().Interface().(interface{ Validate() error })
		faults = append(faults, locate(env.ParseWithOptions(owner, env.Options{Environment: texts, FuncMap: lists}), section, all)...)
		invalid = append(invalid, locate(owner.Validate(), section, all)...)
	}
	faults = append(faults, slices.DeleteFunc(invalid, func(err error) bool {
		name, _, _ := strings.Cut(err.Error(), " ") // what could not be read has its line already
		return slices.ContainsFunc(faults, func(known error) bool { return strings.HasPrefix(known.Error(), name+" ") })
	})...)
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

// setting is one field of a section.
type setting struct {
	section, key, env string
	field             string        // in Go
	value             reflect.Value // in the Config
}

func settings(sections any) (all []setting) {
	for section, value := range reflect.ValueOf(sections).Elem().Fields() {
		for field, value := range value.Fields() {
			if name := field.Tag.Get("env"); name != "" {
				all = append(all, setting{section.Tag.Get("yaml"), field.Tag.Get("yaml"), name, field.Name, value})
			}
		}
	}
	return all
}

func (s setting) fault(problem string) error {
	return fmt.Errorf("%s (%s.%s in %s) %s", s.env, s.section, s.key, DefaultPath, problem)
}

// readFile returns what the file says, as it would stand in the environment. A key that nobody knows is a fault, not a
// silent default.
func readFile(path string, all []setting) (texts map[string]string, faults []error) {
	texts = map[string]string{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && path == DefaultPath {
		return texts, nil
	}
	if err != nil {
		return texts, []error{err}
	}
	var file map[string]map[string]any
	if err := yaml.Unmarshal(data, &file); err != nil {
		line, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
		return texts, []error{fmt.Errorf("%s: %s", path, line)}
	}
	for section, keys := range file {
		if len(keys) == 0 && !slices.ContainsFunc(all, func(s setting) bool { return s.section == section }) {
			faults = append(faults, fmt.Errorf("%s: %s is no section", path, section))
		}
		for key, value := range keys {
			i := slices.IndexFunc(all, func(s setting) bool { return s.section == section && s.key == key })
			if i < 0 {
				faults = append(faults, fmt.Errorf("%s: %s.%s is no setting", path, section, key))
			} else if text, problem := all[i].text(value); problem != "" {
				faults = append(faults, all[i].fault(problem))
			} else if value != nil { // not the key alone
				texts[all[i].env] = text
			}
		}
	}
	return texts, faults
}

// text returns a value of the file as a text, or says what is wrong.
func (s setting) text(value any) (text, problem string) {
	items, isList := value.([]any)
	if s.value.Kind() != reflect.Slice {
		if _, isText := value.(string); isList || !isText && value != nil && s.value.Kind() == reflect.String { // to YAML, 0123 is the number 83
			return "", "must be a single text, in quotes if it is a number"
		}
		return fmt.Sprint(value), ""
	}
	texts := make([]string, len(items))
	for i, item := range items {
		text, isText := item.(string)
		texts[i], isList = text, isList && isText
	}
	if !isList && value != nil {
		return "", "must be a list of texts, in quotes where they are numbers"
	}
	return strings.Join(texts, " "), ""
}

// readEnvironment adds to texts what the environment says, and empties the fields that are set to nothing.
func readEnvironment(environ []string, all []setting, texts map[string]string) (faults []error) {
	variables := env.ToMap(environ)
	for _, s := range all {
		text, file := variables[s.env], variables[s.env+"_FILE"]
		if text == "" && file != "" {
			data, err := os.ReadFile(file)
			if err != nil {
				// The cause alone: a secret may stand where the name of its file belongs.
				faults = append(faults, s.fault(fmt.Sprintf("can't be read, by %s_FILE: %v", s.env, errors.Unwrap(err))))
			}
			text = strings.TrimSpace(string(data))
		}
		if text != "" {
			texts[s.env] = strings.TrimSpace(text)
		}
		if text, isSet := texts[s.env]; isSet && text == "" {
			s.value.SetZero() // env would leave the default
		}
	}
	return faults
}

// lists makes a list of texts one with spaces between, as in LOGTO_SCOPES.
var lists = map[reflect.Type]env.ParserFunc{
	reflect.TypeFor[[]string](): func(text string) (any, error) { return strings.Fields(text), nil },
}

// forms are the words for a value of a type.
var forms = map[reflect.Type]string{
	reflect.TypeFor[time.Duration](): "a duration such as 90s, 30m or 24h",
	reflect.TypeFor[bool]():          "true or false",
	reflect.TypeFor[int]():           "a whole number",
	reflect.TypeFor[float64]():       "a number",
	reflect.TypeFor[url.URL]():       "a URL",
}

// locate names the settings of a section that errors are about.
func locate(err error, section reflect.StructField, all []setting) (faults []error) {
	for _, err := range unjoin(err) {
		if failed, ok := err.(env.ParseError); ok { // its own text holds the value
			err = &fault{failed.Name, "must be " + cmp.Or(forms[failed.Type], "a valid "+failed.Type.String())}
		}
		about, ok := err.(interface{ Setting() string })
		i := slices.IndexFunc(all, func(s setting) bool { return ok && s.section == section.Tag.Get("yaml") && s.field == about.Setting() })
		if i >= 0 {
			err = all[i].fault(strings.TrimPrefix(err.Error(), all[i].field+" "))
		}
		faults = append(faults, err)
	}
	return faults
}

func unjoin(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return slices.DeleteFunc([]error{err}, func(err error) bool { return err == nil })
}
