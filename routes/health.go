package routes

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

// healthz says that the process lives. An orchestrator restarts it if not, so nothing else counts here.
func healthz(c *gin.Context) { c.String(http.StatusOK, "ok\n") }

// readyTimeout is less than orchestrators wait for an answer.
const readyTimeout = 3 * time.Second

// readyz says whether requests can be served in full: 200, or 503 and what is missing.
func (app App) readyz(c *gin.Context) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	var redis, logto error
	var both sync.WaitGroup
	both.Go(func() { redis = app.Sessions.Ping(ctx) })
	both.Go(func() { logto = app.Auth.Ready(ctx) })
	both.Wait()

	code, state := http.StatusOK, gin.H{"redis": "ok", "logto": "ok"}
	for name, err := range map[string]error{"redis": redis, "logto": logto} {
		if err != nil {
			code, state[name] = http.StatusServiceUnavailable, "unavailable"
			c.Set(failureKey, err)
		}
	}
	if code != http.StatusOK {
		c.Header("Retry-After", "5")
	}
	c.JSON(code, state)
}
