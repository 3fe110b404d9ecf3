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

const (
	readyTimeout = 3 * time.Second        // less than orchestrators wait for an answer
	logtoTimeout = 500 * time.Millisecond // a Logto that does not answer must not make the answer late
)

// isStopping reports whether the server will take no more connections in a moment.
func (app App) isStopping() bool {
	select {
	case <-app.Stopping:
		return true
	default:
		return false
	}
}

// readyz says whether requests can be served: 200 when Redis is there and the server is to stay, else 503. Without Logto,
// people who are signed in can be served, so its state is only told.
func (app App) readyz(c *gin.Context) {
	if app.isStopping() {
		c.JSON(http.StatusServiceUnavailable, gin.H{"server": "stopping"})
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyTimeout)
	defer cancel()
	short, cancelShort := context.WithTimeout(ctx, logtoTimeout)
	defer cancelShort()
	var redis, logto error
	var both sync.WaitGroup
	both.Go(func() { redis = app.Sessions.Ping(ctx) })
	both.Go(func() { logto = app.Auth.Ready(short) })
	both.Wait()

	code, state := http.StatusOK, gin.H{"redis": "ok", "logto": "ok"}
	if logto != nil {
		state["logto"] = "unavailable"
		c.Set(failureKey, logto)
	}
	if redis != nil {
		code, state["redis"] = http.StatusServiceUnavailable, "unavailable"
		c.Header("Retry-After", "5")
		c.Set(failureKey, redis)
	}
	c.JSON(code, state)
}
