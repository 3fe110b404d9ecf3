package templates

import (
	"bytes"
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
	"time"
)

// constants are what a page in one language can say before anyone asks for it.
type constants struct {
	lang     string
	page     string // empty while what pages share is parsed
	asset    func(name string) string
	messages Messages
}

func (c constants) message(key string, value ...any) (string, error) {
	return c.messages.Lookup(c.lang, key, value...)
}

func (c constants) assetURL(name string) (string, error) {
	url := c.asset(name)
	if url == "" {
		return "", fmt.Errorf("no static file %q", name)
	}
	return url, nil
}

// language is one to choose.
type language struct {
	Code, Name string
	IsSpoken   bool // by this page
}

// languages are all that there are; none if there is no choice.
func (c constants) languages() (all []language) {
	codes := c.messages.Languages()
	if len(codes) == 1 {
		return nil
	}
	for _, code := range codes {
		all = append(all, language{code, c.messages.Name(code), code == c.lang})
	}
	return all
}

// date shows a time in words; what is no time is shown as it is.
func (c constants) date(value string) string {
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return value
	}
	return c.messages.Date(c.lang, t)
}

// fold puts the text of every constant action into the template and joins it with the text around, so that a
// request executes only what depends on it. It must run before the first execution: html/template then works out
// the escaping with the text in place. The text is escaped for elements and quoted attributes, the only places
// where templates may have it.
func (c constants) fold(list *parse.ListNode) error {
	if list == nil {
		return nil
	}
	var folded []parse.Node
	nodes := slices.Clone(list.Nodes)
	for len(nodes) > 0 {
		node, err := c.foldNode(nodes[0])
		if nodes = nodes[1:]; err != nil {
			return err
		}
		if chosen, ok := node.(*parse.ListNode); ok { // of an if that is decided
			if chosen != nil {
				nodes = append(slices.Clone(chosen.Nodes), nodes...)
			}
			continue
		}
		if text, ok := node.(*parse.TextNode); ok && len(folded) > 0 {
			if before, ok := folded[len(folded)-1].(*parse.TextNode); ok {
				before.Text = append(before.Text, text.Text...)
				continue
			}
		}
		folded = append(folded, node)
	}
	list.Nodes = folded
	return nil
}

func (c constants) foldNode(node parse.Node) (parse.Node, error) {
	switch n := node.(type) {
	case *parse.ActionNode:
		text, ok, err := c.text(n)
		if err != nil {
			return node, fmt.Errorf("line %d: %w", n.Line, err)
		}
		if !ok {
			return node, nil
		}
		return &parse.TextNode{NodeType: parse.NodeText, Pos: n.Pos, Text: []byte(template.HTMLEscapeString(text))}, nil
	case *parse.IfNode:
		if is, ok := c.decided(n.Pipe); ok && is {
			return n.List, nil
		} else if ok {
			return n.ElseList, nil
		}
		return node, c.foldBranch(&n.BranchNode)
	case *parse.RangeNode:
		if err := c.foldBranch(&n.BranchNode); err != nil || n.Pipe.String() != "languages" {
			return node, err
		}
		return c.unroll(n)
	case *parse.WithNode:
		return node, c.foldBranch(&n.BranchNode)
	default:
		return node, nil
	}
}

// decided tells what {{if page "home"}} and {{if languages}} always are.
func (c constants) decided(pipe *parse.PipeNode) (is, ok bool) {
	question := pipe.String()
	name, isPage := strings.CutPrefix(question, "page ")
	switch {
	case question == "languages":
		return c.languages() != nil, true
	case isPage && c.page != "":
		return name == strconv.Quote(c.page), true
	}
	return false, false
}

// unroll returns what {{range languages}} always says.
func (c constants) unroll(n *parse.RangeNode) (parse.Node, error) {
	tree := &parse.Tree{Root: &parse.ListNode{NodeType: parse.NodeList, Nodes: []parse.Node{n}}}
	t, err := template.New("").Funcs(template.FuncMap{"languages": c.languages}).AddParseTree("languages", tree)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = t.Execute(&text, nil)
	return &parse.TextNode{NodeType: parse.NodeText, Pos: n.Pos, Text: text.Bytes()}, err
}

func (c constants) foldBranch(n *parse.BranchNode) error {
	if err := c.fold(n.List); err != nil {
		return err
	}
	return c.fold(n.ElseList)
}

// text returns what an action always says: {{lang}}, {{t "key"}} and {{asset "name"}}.
func (c constants) text(n *parse.ActionNode) (text string, ok bool, err error) {
	if len(n.Pipe.Decl) > 0 || len(n.Pipe.Cmds) != 1 {
		return "", false, nil
	}
	args := n.Pipe.Cmds[0].Args
	name, ok := args[0].(*parse.IdentifierNode)
	if !ok {
		return "", false, nil
	}
	if len(args) == 1 && name.Ident == "lang" {
		return c.lang, true, nil
	}
	if len(args) != 2 {
		return "", false, nil
	}
	arg, ok := args[1].(*parse.StringNode)
	if !ok {
		return "", false, nil
	}
	switch name.Ident {
	case "t":
		text, err = c.message(arg.Text)
	case "asset":
		text, err = c.assetURL(arg.Text)
	default:
		return "", false, nil
	}
	return text, true, err
}
