package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// required are the variables without which there is no application.
var required = []string{"LOGTO_ENDPOINT=https://logto.example", "LOGTO_APP_ID=app", "LOGTO_APP_SECRET=s3cr3t-value"}

func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestShippedFileIsWhole: config.yaml in the root names every setting that there is.
func TestShippedFileIsWhole(t *testing.T) {
	data, err := os.ReadFile("../../config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var sections map[string]map[string]any
	if err := yaml.Unmarshal(data, &sections); err != nil {
		t.Fatal(err)
	}
	var cfg Config
	var known []string
	for _, s := range settings(&cfg) {
		known = append(known, s.section+"."+s.key)
		line := regexp.MustCompile(`(?m)^  ` + s.key + `: .*# ` + s.env + `\b.*: \S`)
		if _, ok := sections[s.section][s.key]; !ok || !line.Match(data) {
			t.Errorf("%s.%s is not in config.yaml, or without %s and a comment", s.section, s.key, s.env)
		}
	}
	for section, keys := range sections {
		for key := range keys {
			if !slices.Contains(known, section+"."+key) {
				t.Errorf("%s.%s in config.yaml is no setting", section, key)
			}
		}
	}
}

// TestSettings: these names are a contract. A new setting need not be among them.
func TestSettings(t *testing.T) {
	var got []string
	for _, s := range settings(&Config{}) {
		got = append(got, s.env+" "+s.section+"."+s.key)
	}
	for _, want := range []string{
		"LISTEN_ADDR server.listen_addr", "BASE_URL server.base_url", "TRUSTED_PROXIES server.trusted_proxies",
		"RATE_LIMIT server.rate_limit", "SHUTDOWN_DELAY server.shutdown_delay",
		"LOGTO_ENDPOINT logto.endpoint", "LOGTO_INTERNAL_ENDPOINT logto.internal_endpoint",
		"LOGTO_APP_ID logto.app_id", "LOGTO_APP_SECRET logto.app_secret", "LOGTO_SCOPES logto.scopes", "LOGTO_RESOURCES logto.resources",
		"LOGTO_WEBHOOK_KEY logto.webhook_key", "LOGTO_DIRECT_SIGN_IN logto.direct_sign_in", "LOGTO_ACCOUNT_CENTER logto.account_center",
		"REDIS_URL redis.url", "SESSION_IDLE_TIMEOUT session.idle_timeout", "SESSION_ABSOLUTE_TIMEOUT session.absolute_timeout",
		"SESSION_REVALIDATE session.revalidate", "SESSION_KEY session.key",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is no setting any more", want)
		}
	}
}

// ofEachType stands in for what a fork adds to a section.
type ofEachType struct {
	Text     string         `yaml:"text" env:"T_TEXT"`
	Number   int            `yaml:"number" env:"T_NUMBER"`
	Share    float64        `yaml:"share" env:"T_SHARE"`
	On       bool           `yaml:"on" env:"T_ON"`
	Life     time.Duration  `yaml:"life" env:"T_LIFE"`
	Link     url.URL        `yaml:"link" env:"T_LINK"`
	List     []string       `yaml:"list" env:"T_LIST"`
	Numbers  []int          `yaml:"numbers" env:"T_NUMBERS"`
	Networks []netip.Prefix `yaml:"networks" env:"T_NETWORKS"`
}

func (ofEachType) Validate() error { return nil }

func TestTypes(t *testing.T) {
	link := url.URL{Scheme: "https", Host: "a.example", Path: "/b"}
	was := ofEachType{"before", 1, 1.5, true, time.Minute, link, []string{"before"}, []int{1}, nil}
	for _, tt := range []struct {
		name, file string
		environ    []string
		want       ofEachType
		faults     []string
	}{
		{name: "nothing", want: was},
		{"file", "test: {text: a, number: 7, share: 0.25, on: false, life: 5s, link: \"https://b.example\", list: [a, \"b,c\"], numbers: [7, 8], networks: [10.0.0.0/8]}", nil,
			ofEachType{"a", 7, 0.25, false, 5 * time.Second, url.URL{Scheme: "https", Host: "b.example"}, []string{"a", "b,c"}, []int{7, 8}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, nil},
		{"environment", "test: {number: 3}", []string{"T_TEXT=b c", "T_NUMBER=-8", "T_SHARE=2", "T_ON=0", "T_LIFE=1h", "T_LINK=https://c.example", "T_LIST= c  d ", "T_NUMBERS=-1 2", "T_NETWORKS=10.0.0.0/8  ::1/128"},
			ofEachType{"b c", -8, 2, false, time.Hour, url.URL{Scheme: "https", Host: "c.example"}, []string{"c", "d"}, []int{-1, 2}, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}, nil},
		{"NAME_FILE", "", []string{"T_NUMBER_FILE=" + write(t, "number", "7\n"), "T_LINK_FILE=" + write(t, "link", "https://d.example\n"), "T_NUMBERS_FILE=" + write(t, "numbers", "5\n6\n")},
			ofEachType{"before", 7, 1.5, true, time.Minute, url.URL{Scheme: "https", Host: "d.example"}, []string{"before"}, []int{5, 6}, nil}, nil},
		{"set to nothing", "test: {text: \"\", list: [], numbers: []}", []string{"T_NUMBER= ", "T_SHARE= ", "T_ON= ", "T_LIFE= ", "T_LINK= "}, ofEachType{}, nil},
		{"wrong in the file", "test: {number: 1.5, share: a-secret, on: maybe, life: 60, link: [a-secret], numbers: [[a-secret]], networks: [a-secret]}", nil, ofEachType{}, []string{
			"T_LIFE (test.life in config.yaml) must be a duration such as 90s, 30m or 24h", "T_LINK (test.link in config.yaml) must be a single text",
			"T_NETWORKS (test.networks in config.yaml) must be a valid []netip.Prefix", "T_NUMBER (test.number in config.yaml) must be a whole number", "T_NUMBERS (test.numbers in config.yaml) must be a list",
			"T_ON (test.on in config.yaml) must be true or false", "T_SHARE (test.share in config.yaml) must be a number",
		}},
		{"wrong in the environment", "", []string{"T_NUMBER=99999999999999999999", "T_SHARE=a-secret", "T_ON=a-secret", "T_LIFE=a-secret", "T_LINK=://a-secret"}, ofEachType{}, []string{
			"T_LIFE (", "T_LINK (test.link in config.yaml) must be a URL", "T_NUMBER (", "T_ON (", "T_SHARE (",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sections := struct {
				Test ofEachType `yaml:"test"`
			}{was}
			err := load(&sections, write(t, "FILE", tt.file), tt.environ)
			if err == nil && (tt.faults != nil || !reflect.DeepEqual(sections.Test, tt.want)) {
				t.Errorf("%+v, want %+v and faults %q", sections.Test, tt.want, tt.faults)
			}
			if got := strings.Split(fmt.Sprint(err), "\n"); err != nil && !slices.EqualFunc(got, tt.faults, strings.HasPrefix) || strings.Contains(fmt.Sprint(err), "a-secret") {
				t.Errorf("faults %q, want %q", got, tt.faults)
			}
		})
	}
}

func TestPrecedence(t *testing.T) {
	secret := write(t, "secret", "from-secret-file\n")
	empty := write(t, "empty", "\n")
	file := write(t, "config.yaml", "server:\n  listen_addr: \":1111\"\nlogto:\n  app_secret: from-yaml\n  scopes: [email, phone]\nsession:\n  idle_timeout: 30m\nredis:\n")
	for _, tt := range []struct {
		name    string
		environ []string
		get     func(Config) any
		want    any
	}{
		{"default", nil, func(c Config) any { return c.Server.BaseURL }, "http://localhost:3000"},
		{"default of an empty section", nil, func(c Config) any { return string(c.Redis.URL) }, "redis://localhost:6379/0"},
		{"file", nil, func(c Config) any { return c.Server.ListenAddr }, ":1111"},
		{"environment over file", []string{"LISTEN_ADDR=:2222"}, func(c Config) any { return c.Server.ListenAddr }, ":2222"},
		{"empty variable", []string{"LISTEN_ADDR="}, func(c Config) any { return c.Server.ListenAddr }, ":1111"},
		{"blank variable", []string{"LOGTO_SCOPES= ", "LOGTO_SCOPES_FILE=" + secret}, func(c Config) any { return len(c.Logto.Scopes) }, 0},
		{"blank secret", []string{"SESSION_KEY= ", "SESSION_KEY_FILE=/nowhere"}, func(c Config) any { return string(c.Session.Key) }, ""},
		{"the last one counts", []string{"LISTEN_ADDR=:2222", "LISTEN_ADDR=:3333"}, func(c Config) any { return c.Server.ListenAddr }, ":3333"},
		{"value with =", []string{"REDIS_URL=redis://h:1/0?pool_size=5"}, func(c Config) any { return string(c.Redis.URL) }, "redis://h:1/0?pool_size=5"},
		{"secret in the file", nil, func(c Config) any { return string(c.Logto.AppSecret) }, "from-yaml"},
		{"NAME_FILE over file", []string{"LOGTO_APP_SECRET_FILE=" + secret}, func(c Config) any { return string(c.Logto.AppSecret) }, "from-secret-file"},
		{"NAME over NAME_FILE", []string{"LOGTO_APP_SECRET_FILE=" + secret, "LOGTO_APP_SECRET=direct"}, func(c Config) any { return string(c.Logto.AppSecret) }, "direct"},
		{"empty NAME with NAME_FILE", []string{"LOGTO_APP_SECRET_FILE=" + secret, "LOGTO_APP_SECRET="}, func(c Config) any { return string(c.Logto.AppSecret) }, "from-secret-file"},
		{"empty NAME_FILE's file", []string{"LOGTO_APP_SECRET_FILE=" + empty}, func(c Config) any { return string(c.Logto.AppSecret) }, "from-yaml"},
		{"NAME_FILE of any setting", []string{"LISTEN_ADDR_FILE=" + write(t, "addr", ":4444")}, func(c Config) any { return c.Server.ListenAddr }, ":4444"},
		{"named port", []string{"LISTEN_ADDR=:http"}, func(c Config) any { return c.Server.ListenAddr }, ":http"},
		{"IPv6", []string{"LISTEN_ADDR=[::1]:3000"}, func(c Config) any { return c.Server.ListenAddr }, "[::1]:3000"},
		{"list in the file", nil, func(c Config) any { return c.Logto.Scopes }, []string{"email", "phone"}},
		{"list in the environment", []string{"LOGTO_SCOPES= email  custom_data\t"}, func(c Config) any { return c.Logto.Scopes }, []string{"email", "custom_data"}},
		{"resources", []string{"LOGTO_RESOURCES=https://a.example https://b.example/api"}, func(c Config) any { return c.Logto.Resources }, []string{"https://a.example", "https://b.example/api"}},
		{"duration in the file", nil, func(c Config) any { return c.Session.IdleTimeout }, 30 * time.Minute},
		{"duration in the environment", []string{"SESSION_ABSOLUTE_TIMEOUT=90m"}, func(c Config) any { return c.Session.AbsoluteTimeout }, 90 * time.Minute},
		{"slash at the end", []string{"BASE_URL=https://www.example.com/"}, func(c Config) any { return c.Server.BaseURL }, "https://www.example.com"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := Load(file, append([]string{"LOGTO_ENDPOINT=https://logto.example", "LOGTO_APP_ID=app"}, tt.environ...))
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.get(cfg); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// TestFaults: each has one line that names the variable and the key, and says what to write instead.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		environ    []string
		want       []string // one for each line: what it begins with
	}{
		{"nothing set", "", []string{"LOGTO_ENDPOINT=", "LOGTO_APP_ID=", "LOGTO_APP_SECRET="}, []string{
			"LOGTO_APP_ID (logto.app_id in config.yaml) is required", "LOGTO_APP_SECRET (logto.app_secret in config.yaml) is required",
			"LOGTO_ENDPOINT (logto.endpoint in config.yaml) is required",
		}},
		{"all at once", "server: {listen_adr: x}\nlogto:\n  app_secret: [a]\n  scopes: email\nshop: {a: 1}\n", []string{
			"BASE_URL=https://host/path", "LISTEN_ADDR=3000", "REDIS_URL=http://host", "SESSION_IDLE_TIMEOUT=soon", "SESSION_ABSOLUTE_TIMEOUT=1s",
			"LOGTO_ENDPOINT=logto.example", "LOGTO_RESOURCES=not-a-uri", "LOGTO_APP_ID_FILE=/nowhere/id", "LOGTO_APP_ID=",
		}, []string{
			"/FILE: server.listen_adr is no setting",
			"/FILE: shop.a is no setting",
			"BASE_URL (server.base_url in config.yaml) must be an http or https URL without a path",
			"LISTEN_ADDR (server.listen_addr in config.yaml) must look like :3000 or 127.0.0.1:3000",
			"LOGTO_APP_ID (logto.app_id in config.yaml) can't be read, by LOGTO_APP_ID_FILE: no such file or directory",
			"LOGTO_APP_SECRET (logto.app_secret in config.yaml) must be a single text",
			"LOGTO_ENDPOINT (logto.endpoint in config.yaml) must be an http or https URL",
			"LOGTO_RESOURCES (logto.resources in config.yaml) holds \"not-a-uri\"",
			"LOGTO_SCOPES (logto.scopes in config.yaml) must be a list of texts",
			"REDIS_URL (redis.url in config.yaml) must look like redis://",
			"SESSION_ABSOLUTE_TIMEOUT (session.absolute_timeout in config.yaml) must not be shorter",
			"SESSION_IDLE_TIMEOUT (session.idle_timeout in config.yaml) must be a duration such as 90s, 30m or 24h",
		}},
		{"section that is a number, and other faults", "server: 5\nshop: [a]\nsession: {idle_timeout: x}\n", nil, []string{
			"/FILE: server must be a section, with a line for each setting", "/FILE: shop must be a section, with a line for each setting",
			"SESSION_IDLE_TIMEOUT (session.idle_timeout in config.yaml) must be a duration such as 90s, 30m or 24h",
		}},
		{"a second document", "server: {}\n---\nserver: {rate_limit: 5}\n", nil, []string{"/FILE has a second document after ---; only the first is read"}},
		{"a document after an empty one", "---\n# a\n---\nserver: {rate_limit: 5}\n", nil, []string{"/FILE has a second document after ---; only the first is read"}},
		{"ports", "", []string{"BASE_URL=http://localhost:99999", "LOGTO_ENDPOINT=http://logto.example:99999"}, []string{
			"BASE_URL (server.base_url in config.yaml) must be an http or https URL without a path, such as https://www.example.com",
			"LOGTO_ENDPOINT (logto.endpoint in config.yaml) must be an http or https URL without user, query or fragment",
		}},
		{"unknown section without keys", "shop:\n", nil, []string{"/FILE: shop is no section"}},
		{"no sections", "listen_addr: x\n", nil, []string{"/FILE: "}},
		{"a list", "- a\n- b\n", nil, []string{"/FILE: "}},
		{"no YAML", "server: {\n", nil, []string{"/FILE: "}},
		{"a key twice", "server:\n  base_url: http://a\n  base_url: http://b\n", nil, []string{"/FILE: "}},
		{"a map for a value", "redis:\n  url: {a: b}\n", nil, []string{"REDIS_URL (redis.url in config.yaml) must be a single text"}},
		{"a number for a text", "logto:\n  app_id: 0123\n", nil, []string{"LOGTO_APP_ID (logto.app_id in config.yaml) must be a single text, in quotes if it is a number"}},
		{"a list of numbers", "logto:\n  scopes: [1]\n", nil, []string{"LOGTO_SCOPES (logto.scopes in config.yaml) must be a list of texts"}},
		{"a number for a duration", "session:\n  idle_timeout: 60\n", nil, []string{"SESSION_IDLE_TIMEOUT (session.idle_timeout in config.yaml) must be"}},
		{"a scope with a quote", "", []string{`LOGTO_SCOPES=email "phone"`}, []string{"LOGTO_SCOPES (logto.scopes in config.yaml) holds"}},
		{"idle time-out of nothing", "", []string{"SESSION_IDLE_TIMEOUT=0"}, []string{"SESSION_IDLE_TIMEOUT (session.idle_timeout in config.yaml) must be one second or more"}},
		{"base URL with query", "", []string{"BASE_URL=https://host?a"}, []string{"BASE_URL "}},
		{"base URL in capitals", "", []string{"BASE_URL=HTTPS://host"}, []string{"BASE_URL "}},
		{"base URL of another scheme", "", []string{"BASE_URL=ftp://host"}, []string{"BASE_URL "}},
		{"base URL without a host", "", []string{"BASE_URL=http://:3000"}, []string{"BASE_URL "}},
		{"address without a port", "", []string{"LISTEN_ADDR=localhost:"}, []string{"LISTEN_ADDR "}},
		{"address with a port that there is not", "", []string{"LISTEN_ADDR=:99999"}, []string{"LISTEN_ADDR (server.listen_addr in config.yaml) must look like"}},
		{"address with a negative port", "", []string{"LISTEN_ADDR=:-1"}, []string{"LISTEN_ADDR "}},
		{"address with a port of no name", "", []string{"LISTEN_ADDR=:port"}, []string{"LISTEN_ADDR "}},
		{"address of IPv6 without brackets", "", []string{"LISTEN_ADDR=::1:3000"}, []string{"LISTEN_ADDR "}},
		{"the issuer for the endpoint", "", []string{"LOGTO_ENDPOINT=https://logto.example/oidc"}, []string{"LOGTO_ENDPOINT (logto.endpoint in config.yaml) must be the base URL, without /oidc at the end"}},
		{"a proxy by its name", "", []string{"TRUSTED_PROXIES=10.0.0.0/8 proxy"}, []string{"TRUSTED_PROXIES (server.trusted_proxies in config.yaml) must be addresses and networks"}},
		{"a network that there is not", "", []string{"TRUSTED_PROXIES=10.0.0.0/33"}, []string{"TRUSTED_PROXIES "}},
		{"no rate", "", []string{"RATE_LIMIT=60"}, []string{"RATE_LIMIT (server.rate_limit in config.yaml) must look like 10/s, 60/m or 1000/h, or be off"}},
		{"a rate of nothing", "", []string{"RATE_LIMIT=0/m"}, []string{"RATE_LIMIT "}},
		{"a rate for each day", "", []string{"RATE_LIMIT=5/d"}, []string{"RATE_LIMIT "}},
		{"a delay that is over", "", []string{"SHUTDOWN_DELAY=-1s"}, []string{"SHUTDOWN_DELAY (server.shutdown_delay in config.yaml) must not be negative"}},
		{"Redis database", "", []string{"REDIS_URL=redis://localhost/x"}, []string{"REDIS_URL "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, "FILE", tt.file)
			_, err := Load(path, append(slices.Clone(required), tt.environ...))
			if err == nil {
				t.Fatal("no fault")
			}
			got := strings.Split(err.Error(), "\n")
			for i, line := range got {
				got[i] = strings.ReplaceAll(line, filepath.Dir(path), "")
			}
			if len(got) != len(tt.want) || !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
				t.Errorf("faults\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := Load(DefaultPath, required); err != nil {
		t.Errorf("the file that need not exist: %v", err)
	}
	if _, err := Load("another.yaml", required); err == nil || !strings.Contains(err.Error(), "another.yaml") {
		t.Errorf("a file that was asked for: %v", err)
	}
}

// TestNoSecretShown: whatever is wrong, and however it is printed, no secret's value and no URL's password is told.
func TestNoSecretShown(t *testing.T) {
	const secret = "s3cr3t%zz"
	file := write(t, "config.yaml", "logto:\n  app_secret: [\""+secret+"\"]\nredis:\n  url: \"redis://:"+secret+"@host:port/x?y=z\"\n")
	for _, environ := range [][]string{
		nil,
		{"LOGTO_APP_SECRET_FILE=" + secret}, // the value where a path is wanted
		{"REDIS_URL=redis://user:" + secret + "@host/0"}, {"REDIS_URL=" + secret}, {"REDIS_URL=redis://user:" + secret + "@host?addr=a&x=y"},
		{"REDIS_URL=redis://h?master_name=m&password=" + secret + "&x=y"}, {"LOGTO_ENDPOINT=https://user:" + secret + "@host"},
		{"LOGTO_INTERNAL_ENDPOINT=https://user:" + secret + "@host"}, {"BASE_URL=https://user:" + secret + "@host"}, {"LISTEN_ADDR=" + secret},
		{"SESSION_IDLE_TIMEOUT=" + secret},
	} {
		_, err := Load(file, environ)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", environ, err)
		}
	}
	cfg, err := Load(write(t, "empty.yaml", ""), append(slices.Clone(required), "LOGTO_APP_SECRET="+"s3cr3t", "REDIS_URL=redis://:s3cr3t@host"))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if text := fmt.Sprintf(verb, cfg); strings.Contains(text, "s3cr3t") || strings.Contains(text, "733363723374") {
			t.Errorf("%s: %s", verb, text)
		}
	}
}

// FuzzLoad: no file and no variable makes a panic, and no error tells a secret.
func FuzzLoad(f *testing.F) {
	const secret = "s3cr3t-9f8e7d"
	shipped, err := os.ReadFile("../../config.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(shipped), "", "host:6379/0", "24h")
	for _, before := range []string{"", "server: 3\n", "a: &a [*a]\n", "? [a]\n: b\n", "1: {2: 3}\n", "null\n---\n", "\xff", "!!binary x\n", "session: {idle_timeout: .inf}\n", "{", "- "} {
		for _, after := range []string{"", "\"", ": x", "\n  app_secret: y", "]", "\n\t- z", "\n  scopes: [a, {b: c}]\nredis: {url: [", "\n<<: *a"} {
			f.Add(before, after, "h:x/y?addr=z&q", "1")
		}
	}
	f.Fuzz(func(t *testing.T, before, after, host, life string) {
		file := write(t, "config.yaml", before+"logto:\n  app_secret: "+secret+after)
		environ := []string{"LOGTO_ENDPOINT=https://u:" + secret + "@" + host, "REDIS_URL=redis://u:" + secret + "@" + host, "SESSION_IDLE_TIMEOUT=" + life}
		for _, environ := range [][]string{environ, append(environ, required...), append(slices.Clone(required), "LISTEN_ADDR="+host, "BASE_URL=http://"+host)} {
			cfg, err := Load(file, environ)
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%q %q: %v", before+secret+after, host, err)
			}
			if err == nil && errors.Join(cfg.Server.Validate(), cfg.Logto.Validate(), cfg.Redis.Validate(), cfg.Session.Validate()) != nil {
				t.Errorf("%q %q: let through", before+after, host)
			}
		}
	})
}
