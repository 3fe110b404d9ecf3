package docs_test

import (
	"reflect"
	"strings"
	"testing"

	"example.com/logto-gin-starter/internal/config"
)

// What is here holds for the starter: docs/rename removes it from a fork.

func TestREADME(t *testing.T) {
	readme := read(t, "../README.md")
	if lines := strings.Count(readme, "\n"); lines > 120 {
		t.Errorf("README.md has %d lines: move what is not for the first hour to docs", lines)
	}
	for _, heading := range []string{"With your own Logto", "Make it yours"} { // to which pages link
		if !strings.Contains(readme, "\n## "+heading+"\n") {
			t.Errorf("README.md has no heading %q", heading)
		}
	}
}

// TestShippedFile: config.yaml in the root says what holds without it, for every setting that there is.
func TestShippedFile(t *testing.T) {
	required := []string{"LOGTO_ENDPOINT=https://logto.example", "LOGTO_APP_ID=app", "LOGTO_APP_SECRET=secret"}
	got, err := config.Load("../config.yaml", required)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir()) // where there is no config.yaml
	want, err := config.Load(config.DefaultPath, required)
	if err != nil {
		t.Fatal(err)
	}
	got.Logto.SecretAgain, want.Logto.SecretAgain = nil, nil // functions can't be compared
	if !reflect.DeepEqual(got, want) {
		t.Errorf("config.yaml sets\n%#v, the default is\n%#v", got, want)
	}
}
