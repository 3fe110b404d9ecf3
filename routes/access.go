package routes

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// access is behind each guard of the route table that a sample is shown of; the page itself asks what the guards ask.
func (app App) access(c *gin.Context) error { return app.page(c, http.StatusOK, "access", nil) }
