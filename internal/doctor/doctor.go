// Package doctor finds what goes wrong first with a Logto and a Redis of one's own, and says what to click. It needs no
// sign-in. Start reading at [Check].
package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"example.com/logto-gin-starter/internal/config"
	"example.com/logto-gin-starter/internal/session"
)

const (
	warn = "warn" // it works, but not as well as it could; or only a person can see whether it does
	fail = "FAIL"
	gate = "gate" // a failure after which the rest of the list would fail too
)

// check is one line of the answer: what was found, and what to do if it is not right.
type check struct {
	about, level string
	run          func(context.Context) (found, do string)
}

// doctor is what one check leaves for the next.
type doctor struct {
	config.Config
	rdb    redis.UniversalClient
	info   map[string]map[string]string // of Redis
	date   time.Time                    // by Logto's clock
	scopes []string                     // that Logto supports
}

// Check writes a line for each check. Its error says how many failed.
func Check(ctx context.Context, cfg config.Config, out io.Writer) error {
	logging.Disable() // go-redis writes lines of its own
	rdb, err := session.Open(cfg.Redis)
	if err != nil {
		return fmt.Errorf("open redis: %w", err)
	}
	defer rdb.Close()
	d := &doctor{Config: cfg, rdb: rdb}
	failed, lines := 0, tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, checks := range [][]check{d.logto(), d.redis(), {{"BASE_URL", warn, d.baseURL}}} {
		for _, c := range checks {
			bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
			found, do := c.run(bounded)
			cancel()
			level := "ok"
			if do != "" {
				level, found = strings.Replace(c.level, gate, fail, 1), found+": "+do
			}
			// A part of it is what somebody else answered.
			found = strings.Join(strings.FieldsFunc(found, func(r rune) bool { return !unicode.IsPrint(r) }), " ")
			fmt.Fprintf(lines, "%s\t%s\t%s\n", level, c.about, found)
			if level == fail {
				failed++
			}
			if level == fail && c.level == gate {
				break
			}
		}
	}
	if err := lines.Flush(); err != nil || failed == 0 {
		return err
	}
	return fmt.Errorf("%d checks failed", failed)
}

func (d *doctor) redis() []check {
	return []check{
		{"Redis", gate, d.reachRedis},
		{"Redis version", warn, d.told("Server", "redis_version", "7 or later", func(v string) bool { return len(v) > 2 && v[1] != '.' || v >= "7" })},
		{"Redis rights", fail, d.rights},
		{"Redis memory", warn, d.told("Memory", "maxmemory_policy", "noeviction, or people are signed out at random when memory is short", func(v string) bool { return v == "noeviction" })},
		{"Redis persistence", warn, d.told("Persistence", "aof_enabled", "1 (appendonly yes), or a crash of Redis signs people out", func(v string) bool { return v == "1" })},
	}
}

func (d *doctor) reachRedis(ctx context.Context) (found, do string) {
	if err := d.rdb.Ping(ctx).Err(); err != nil {
		return err.Error(), "see that Redis runs, and that REDIS_URL has its address, user and password"
	}
	d.info = d.rdb.InfoMap(ctx).Val() // empty without the right to ask
	return "reached", ""
}

// told checks what INFO says.
func (d *doctor) told(section, key, must string, isRight func(value string) bool) func(context.Context) (found, do string) {
	return func(context.Context) (found, do string) {
		switch value := d.info[section][key]; {
		case value == "":
			return key + " can't be seen, for INFO is not allowed", "see that it is " + must
		case !isRight(value):
			return key + " is " + value, "it should be " + must
		default:
			return key + " " + value, ""
		}
	}
}

// commands are those of the application, on keys like its own. What they write ends within a second.
const commands = `time, eval return(1) 1 session:*, evalsha 0 1 session:*,
	set session:* v px 1000, get session:*, getrange session:* 0 1, setrange session:* 0 w, exists session:*, pexpire session:* 1000, pttl session:*, del session:*,
	zadd person:* 1 m, pexpire person:* 1000, zscore person:* m, zcount person:* 0 1, zrange person:* 0 -1, zrem person:* m, zremrangebyscore person:* 0 1,
	exists lock:*, exists sid:*, exists ended:*, exists once:*, exists rate:*`

func (d *doctor) rights(ctx context.Context) (found, do string) {
	var refused []string
	var why error
	key := "{" + rand.Text() + "}"
	for command := range strings.SplitSeq(commands, ",") {
		var args []any
		for word := range strings.FieldsSeq(strings.Replace(command, "*", key, 1)) {
			args = append(args, word)
		}
		if err := d.rdb.Do(ctx, args...).Err(); err != nil && !errors.Is(err, redis.Nil) && !redis.HasErrorPrefix(err, "NOSCRIPT") {
			refused, why = append(refused, strings.TrimSpace(command)), err
		}
	}
	if why != nil {
		return fmt.Sprintf("%s (%v)", strings.Join(refused, ", "), why), "allow the user what internal/session/redis.go lists, and see that this is a master with memory left"
	}
	return "every command that is needed", ""
}

func (d *doctor) baseURL(ctx context.Context) (found, do string) {
	response, text, err := d.send(ctx, d.Server.BaseURL+"/healthz", nil)
	switch {
	case err != nil:
		return fmt.Sprintf("%s does not answer (%v)", d.Server.BaseURL, err), "start the application and check again; in a container, localhost is the container"
	case response.StatusCode != http.StatusOK || text != "ok\n":
		return fmt.Sprintf("%s answers %s, and not as this application", d.Server.BaseURL, response.Status), "see that it is the address in browsers, and that the proxy there finds the application"
	}
	return d.Server.BaseURL, ""
}

// send sends a request as the application does: to Logto by LOGTO_INTERNAL_ENDPOINT, and a form with the app secret.
func (d *doctor) send(ctx context.Context, address string, form url.Values) (response *http.Response, text string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, "", err
	}
	if internal, err := url.Parse(d.Logto.InternalEndpoint); err == nil && internal.Host != "" && strings.HasPrefix(address, d.Logto.Endpoint) {
		request.URL.Scheme, request.URL.Host = internal.Scheme, internal.Host // and the Host header stays
	}
	if form != nil {
		request.Method, request.Body = http.MethodPost, io.NopCloser(strings.NewReader(form.Encode()))
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.SetBasicAuth(url.QueryEscape(d.Logto.AppID), url.QueryEscape(string(d.Logto.AppSecret)))
	}
	if response, err = http.DefaultTransport.RoundTrip(request); err != nil { // which follows no redirect
		return nil, "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response, string(data), err
}
