package routes

import (
	"bufio"
	"bytes"
	"context"
	"html/template"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"

	"example.com/logto-gin-starter/internal/session"
	"example.com/logto-gin-starter/templates"
)

// BenchmarkHome measures the signed-in home page beside its limit: bare Gin that reads 4 KiB from the same Redis and
// executes an html/template of the same size, with actions for what differs from person to person and for each text.
// Both are served over HTTP and take turns, so that whatever else the machine does slows both; "ratio" is what counts.
func BenchmarkHome(b *testing.B) {
	s := newSite(b)
	cookie := "sid=" + s.signedIn(b, "ada").cookies()["sid"]
	rdb := benchRedis(b, s)
	s.app.Log = slog.New(slog.NewJSONHandler(io.Discard, nil))
	s.app.Sessions = session.NewStore(rdb, session.DefaultConfig(), session.Options{Log: s.app.Log})
	home := newVisitor(b, New(s.app), cookie)
	_, page, _ := bytes.Cut(home.visit(b), []byte("\r\n\r\n"))
	if !bytes.Contains(page, []byte("Hello, Ada Lovelace")) {
		b.Fatalf("not signed in: %s", page)
	}
	limit := newVisitor(b, benchLimit(b, rdb, len(page)), cookie)
	if _, got, _ := bytes.Cut(limit.visit(b), []byte("\r\n\r\n")); len(got) != len(page) {
		b.Fatalf("the limit's page has %d bytes, home %d", len(got), len(page))
	}

	var took [2]time.Duration
	for b.Loop() {
		for i, v := range []*visitor{home, limit} {
			start := time.Now()
			v.visit(b)
			took[i] += time.Since(start)
		}
	}
	b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N), "home-ns/op")
	b.ReportMetric(float64(took[1].Nanoseconds())/float64(b.N), "limit-ns/op")
	b.ReportMetric(float64(took[0])/float64(took[1]), "ratio")
	b.ReportMetric(0, "ns/op") // of both together, which says nothing
}

// visitor asks for one page again and again, and does as little as possible about it: all answers have the same length.
type visitor struct {
	conn    net.Conn
	request []byte
	answer  []byte
}

func newVisitor(b *testing.B, handler http.Handler, cookie string) *visitor {
	b.Helper()
	server := httptest.NewServer(handler)
	b.Cleanup(server.Close)
	address := server.Listener.Addr().String()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	v := &visitor{conn: conn, request: []byte("GET / HTTP/1.1\r\nHost: " + address + "\r\nAccept: text/html,application/xhtml+xml,*/*;q=0.8\r\n" +
		"Accept-Language: en-GB,en;q=0.9\r\nCookie: " + cookie + "\r\n\r\n")}
	if _, err := conn.Write(v.request); err != nil {
		b.Fatal(err)
	}
	var first bytes.Buffer
	response, err := http.ReadResponse(bufio.NewReaderSize(io.TeeReader(conn, &first), 1), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
	}
	if err != nil {
		b.Fatal(err)
	}
	v.answer = first.Bytes()
	return v
}

func (v *visitor) visit(b *testing.B) []byte {
	if _, err := v.conn.Write(v.request); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(v.conn, v.answer); err != nil {
		b.Fatal(err)
	}
	return v.answer
}

// benchLimit is the least that such a page can cost.
func benchLimit(b *testing.B, rdb redis.UniversalClient, size int) http.Handler {
	b.Helper()
	// What of the home page depends on the person or the address: whether anybody is signed in (twice), their name
	// (twice), whether they have a picture and which, and which of three links is the current one. And 30 of its texts, which
	// come from a table, as on any site in two languages.
	actions := `{{with .User}}{{if eq $.Path "/a"}}{{end}}{{if eq $.Path "/b"}}{{end}}{{if eq $.Path "/c"}}{{end}}` +
		`{{if .Picture}}<img src="{{.Picture}}">{{end}}{{.Name}}{{end}}{{with .User}}{{.Name}}{{end}}` +
		strings.Repeat(`{{t .Lang "text"}}`, 30)
	messages := map[string]map[string]string{"en": {"text": "text"}}
	texts := template.FuncMap{"t": func(lang, key string) string { return messages[lang][key] }}
	data := templates.Page{Lang: "en", Path: "/", User: &templates.User{Name: "Ada Lovelace", Picture: "https://logto.example/avatar/ada.svg"}}
	var short bytes.Buffer
	if err := template.Must(template.New("").Funcs(texts).Parse("<body><p>"+actions+"</p></body>")).Execute(&short, data); err != nil {
		b.Fatal(err)
	}
	padded := template.Must(template.New("").Funcs(texts).Parse("<body><p>" + actions + strings.Repeat("x", size-short.Len()) + "</p></body>"))
	if err := rdb.Set(b.Context(), "limit", strings.Repeat("x", 4<<10), 0).Err(); err != nil {
		b.Fatal(err)
	}
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.GET("/", func(c *gin.Context) {
		if err := rdb.Get(c.Request.Context(), "limit").Err(); err != nil {
			c.Status(http.StatusServiceUnavailable)
			return
		}
		var html bytes.Buffer
		if err := padded.Execute(&html, data); err != nil {
			c.Status(http.StatusInternalServerError)
			return
		}
		c.Data(http.StatusOK, "text/html; charset=utf-8", html.Bytes())
	})
	return engine
}

// benchRedis starts a redis-server, where there is one, with what the site's in-memory Redis holds.
func benchRedis(b *testing.B, s *site) redis.UniversalClient {
	b.Helper()
	address := s.redis.Addr()
	if path, err := exec.LookPath("redis-server"); err == nil {
		address = startRedis(b, path)
	} else if os.Getenv("CI") == "true" {
		b.Fatal("redis-server is missing")
	} else {
		b.Log("an in-memory Redis stands in for redis-server, which is missing")
	}
	rdb, err := session.Open(session.RedisConfig{URL: session.Secret("redis://" + address)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = rdb.Close() })
	for _, key := range s.redis.Keys() {
		if value, err := s.redis.Get(key); err == nil {
			if err := rdb.Set(b.Context(), key, value, 0).Err(); err != nil {
				b.Fatal(err)
			}
		}
	}
	return rdb
}

func startRedis(b *testing.B, path string) (address string) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address = listener.Addr().String()
	_ = listener.Close()
	_, port, _ := strings.Cut(address, ":")
	command := exec.CommandContext(b.Context(), path, "--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", b.TempDir())
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = command.Wait() }) // its context has ended
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return address
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.Fatal("redis-server does not answer")
	return ""
}
