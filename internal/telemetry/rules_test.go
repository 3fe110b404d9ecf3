package telemetry_test

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const observability = "../../deploy/observability"

// promtool runs Debian's, where it is installed.
func promtool(t *testing.T, stdin string, args ...string) (output string, err error) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("promtool is missing: it is in Debian's package prometheus")
	}
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), path, args...)
	command.Dir, command.Stdin = observability, strings.NewReader(stdin)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err = command.Run()
	return out.String(), err
}

// prometheusSite is one whose metrics Prometheus can read.
func prometheusSite(t *testing.T) *site {
	t.Helper()
	t.Setenv("OTEL_METRICS_EXPORTER", "prometheus")
	t.Setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.1")
	t.Setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
	return newSite(t, "")
}

// TestMetricsForm: Prometheus can read what the application serves; it has nothing against the names that are our own.
func TestMetricsForm(t *testing.T) {
	s := prometheusSite(t)
	s.tour(t)
	complaints, err := promtool(t, s.metrics(t), "check", "metrics")
	if exit, isExit := err.(*exec.ExitError); err != nil && (!isExit || exit.ExitCode() != 3) { // 3: only matters of style
		t.Fatalf("%v\n%s", err, complaints)
	}
	for line := range strings.Lines(complaints) {
		if !strings.HasPrefix(line, "db_client_connections_") && !strings.HasPrefix(line, "go_goroutine_count ") { // the libraries' names
			t.Error(line)
		}
	}
}

// TestAlerts: the rules fire when they must, by their own tests.
func TestAlerts(t *testing.T) {
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"test", "rules", "rules_test.yml"}} {
		if output, err := promtool(t, "", args...); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, output)
		}
	}
}

// TestAlertsNames: each metric and label of a rule is one that the application really has, also that of each failure; and
// the manual says what to do about each alert.
func TestAlertsNames(t *testing.T) {
	s := prometheusSite(t)
	s.tour(t)
	s.signIn(t)
	_, logto, _ := s.visit(t, "GET", "/sign-in")
	back, err := s.logto.SignIn(t.Context(), logto, "ada")
	if err != nil {
		t.Fatal(err)
	}
	s.logto.Close()
	_, query, _ := strings.Cut(back, "?")
	if status, _, _ := s.visit(t, "GET", "/callback?"+query); status != http.StatusBadGateway {
		t.Errorf("without Logto: %d", status)
	}
	s.redis.Close()
	if status, _, _ := s.visit(t, "GET", "/"); status != http.StatusServiceUnavailable {
		t.Errorf("without Redis: %d", status)
	}
	metrics := s.metrics(t)
	for _, want := range []string{ // what the rules count as failures
		`http_server_request_duration_seconds_count\{.*http_response_status_code="503"`,
		`app_sign_ins_total\{outcome="logto_unavailable"`,
		`http_client_request_duration_seconds_count\{error_type="`,
		`db_client_connections_use_time_milliseconds_count\{.*status="error"`,
	} {
		if !regexp.MustCompile(want).MatchString(metrics) {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}

	rules, err := os.ReadFile(filepath.Join(observability, "rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	selectors := regexp.MustCompile(`(\w+)\{([^{}]*)\}`).FindAllStringSubmatch(regexp.MustCompile(`(?m)^ +(labels|annotations):.*$`).ReplaceAllString(string(rules), ""), -1)
	if len(selectors) < 15 {
		t.Errorf("only %d selectors were found", len(selectors))
	}
	for _, selector := range selectors {
		if selector[1] == "up" { // Prometheus' own
			continue
		}
		if !regexp.MustCompile(`(?m)^` + selector[1] + `\b`).MatchString(metrics) {
			t.Errorf("the application has no %s", selector[1])
		}
		for _, label := range regexp.MustCompile(`(\w+)[=!]~?"`).FindAllStringSubmatch(selector[2], -1) {
			if !regexp.MustCompile(`(?m)^` + selector[1] + `\{.*\b` + label[1] + `="`).MatchString(metrics) {
				t.Errorf("%s has no label %s", selector[1], label[1])
			}
		}
	}

	manual, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, alert := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		if !strings.Contains(string(manual), "\n| `"+alert[1]+"` |") {
			t.Errorf("docs/operate.md does not say what %s means", alert[1])
		}
	}
}
