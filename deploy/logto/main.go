// Command logto prepares a new Logto for this application through Logto's Management API, so that nobody has to click
// through its console. docker-compose.yml runs it before the application starts; running it again changes nothing.
//
// Start reading at [preparer.prepare]; what it makes is listed in sample.go.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.com/logto-gin-starter/internal/session"
)

// patience bounds the whole run; on a slow machine it takes some seconds.
const patience = 3 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := run(ctx, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "setup:", explain(err))
		stop()
		os.Exit(1)
	}
}

// settings is what the environment says.
type settings struct {
	endpoint, admin, adminHost string // of Logto, as this container reaches it
	secretFile                 string // of the Management API
	baseURL                    string // of the application, as a browser reaches it
	backchannelURI, webhookURI string // of the application, as Logto reaches it
	credentials                folder // where the application finds what it needs
	username, password         string // of the first demo person; both have the password, and an empty one is generated
}

func read(getenv func(string) string) (settings, error) {
	var missing []string
	need := func(name string) string {
		value := getenv(name)
		if value == "" {
			missing = append(missing, name)
		}
		return value
	}
	s := settings{
		endpoint:       need("LOGTO_ENDPOINT"),
		admin:          need("LOGTO_ADMIN_ENDPOINT"),
		adminHost:      getenv("LOGTO_ADMIN_HOST"),
		secretFile:     need("LOGTO_MANAGEMENT_SECRET_FILE"),
		baseURL:        strings.TrimRight(need("BASE_URL"), "/"),
		backchannelURI: need("BACKCHANNEL_LOGOUT_URI"),
		webhookURI:     need("WEBHOOK_URI"),
		credentials:    folder(need("CREDENTIALS_DIR")),
		username:       cmp.Or(getenv("DEMO_USERNAME"), "ada"),
		password:       getenv("DEMO_PASSWORD"),
	}
	if len(missing) > 0 {
		return settings{}, fmt.Errorf("set %s, as docker-compose.yml does", strings.Join(missing, ", "))
	}
	return s, nil
}

func run(ctx context.Context, getenv func(string) string, out io.Writer) error {
	s, err := read(getenv)
	if err != nil {
		return err
	}
	secret, err := os.ReadFile(s.secretFile)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoSecret, err)
	}
	api := newLogto(s.endpoint, s.admin, s.adminHost, strings.TrimSpace(string(secret)))
	if err := api.connect(ctx); err != nil {
		return err
	}
	passwords, err := s.passwords()
	if err != nil {
		return err
	}
	sample := newSample(s.baseURL, s.backchannelURI, s.webhookURI, s.username, passwords[0])
	p := &preparer{api: api, out: out}
	result, err := p.prepare(ctx, sample, s.credentials.load("app_id"))
	if err != nil {
		return err
	}
	if err := s.sessionKey(); err != nil {
		return err
	}
	for name, value := range result.files(sample) {
		if err := s.credentials.save(name, value); err != nil {
			return err
		}
	}
	if err := os.Remove(s.secretFile); err != nil { // it opens everything in Logto, and the next `docker compose up` writes it again
		return fmt.Errorf("delete the Management API's secret: %w", err)
	}
	return greet(ctx, out, api, s, sample.people, result.userIDs, passwords)
}

const passwordFile = "demo_password"

// passwords are those that the demo people may have: the given one, the one of an earlier run, or else a new one, which
// is saved before anything is made with it.
func (s settings) passwords() ([]string, error) {
	saved := s.credentials.load(passwordFile)
	known := slices.DeleteFunc([]string{s.password, saved}, func(p string) bool { return p == "" })
	if len(known) > 0 {
		return known, nil
	}
	text := strings.ToLower(rand.Text())
	password := strings.Join([]string{text[:4], text[4:8], text[8:12], text[12:16]}, "-")
	return []string{password}, s.credentials.save(passwordFile, password)
}

// sessionKey makes the application's SESSION_KEY once: another one would sign everybody out.
func (s settings) sessionKey() error {
	const name = "session_key"
	if s.credentials.load(name) != "" {
		return nil
	}
	return s.credentials.save(name, session.NewKey())
}

// greet ends the log with what to do now.
func greet(ctx context.Context, out io.Writer, api *logto, s settings, people []person, ids []string, passwords []string) error {
	text := fmt.Sprintf("\n  Open     %s\n", s.baseURL)
	for i, person := range people {
		password, err := current(ctx, api, ids[i], passwords)
		if err != nil {
			return err
		}
		known := "a password that was changed or set elsewhere"
		if password != "" {
			known = "the password " + password
		}
		if password != "" && i == 0 {
			if err := s.credentials.save(passwordFile, password); err != nil {
				return err
			}
		}
		text += fmt.Sprintf("  Sign in  as %s, %s, with %s\n", person.Username, person.about, known)
	}
	_, err := fmt.Fprintln(out, text+"           or create an account\n")
	return err
}

// current is the one of the passwords that a person has now; empty if it is none of them.
func current(ctx context.Context, api *logto, userID string, passwords []string) (string, error) {
	for _, password := range passwords {
		if ok, err := api.hasPassword(ctx, userID, password); ok || err != nil {
			return password, err
		}
	}
	return "", nil
}
