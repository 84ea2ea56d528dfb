package main

import (
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// scratchPath is the PATH that BuildKit gives an image from scratch (emptyImage of its dockerfile2llb).
const scratchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// stage is the final stage of a Dockerfile.
type stage struct {
	files  []file
	config v1.Config
}

// file is the result of one COPY.
type file struct {
	from, source string // a stage, and the path in it
	target       string // the path in the image, in its root directory
	mode         int64
}

// readStage reads the final stage of a Dockerfile, with the build arguments. It supports the instructions of an image
// that has only files, and refuses every other, so that the result cannot differ from an engine's unnoticed.
func readStage(dockerfile io.Reader, args map[string]string) (stage, error) {
	parsed, err := parser.Parse(dockerfile)
	if err != nil {
		return stage{}, err
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return stage{}, err
	}
	final := stages[len(stages)-1]
	if final.BaseName != "scratch" {
		return stage{}, fmt.Errorf(
			"the final stage is from %s, want scratch, because a base image requires an engine", final.BaseName,
		)
	}
	s := stage{config: v1.Config{
		WorkingDir:   "/",
		Env:          []string{scratchPath},
		Labels:       map[string]string{},
		ExposedPorts: map[string]struct{}{},
	}}
	known := map[string]string{}
	for _, command := range final.Commands {
		if expandable, ok := command.(instructions.SupportsSingleWordExpansion); ok {
			if err := expandable.Expand(expander(known)); err != nil {
				return stage{}, fmt.Errorf("%s: %w", command, err)
			}
		}
		if err := s.add(command, known, args); err != nil {
			return stage{}, fmt.Errorf("%s: %w", command, err)
		}
	}
	return s, nil
}

// expander replaces $NAME by its value. As in Docker, these are the arguments that are declared before. Another name is
// an error, which Docker would take for empty.
func expander(known map[string]string) instructions.SingleWordExpander {
	return func(word string) (string, error) {
		result, err := shell.NewLex('\\').ProcessWordWithMatches(word, shell.EnvsFromSlice(pairs(known)))
		if err != nil {
			return "", err
		}
		for name := range result.Unmatched {
			return "", fmt.Errorf("ARG %s must be declared before it", name)
		}
		return result.Result, nil
	}
}

func pairs(m map[string]string) []string {
	var list []string
	for key, value := range m {
		list = append(list, key+"="+value)
	}
	return list
}

func (s *stage) add(command instructions.Command, known, args map[string]string) error {
	switch c := command.(type) {
	case *instructions.ArgCommand:
		for _, arg := range c.Args {
			if arg.Value != nil {
				known[arg.Key] = *arg.Value
			}
			if value, given := args[arg.Key]; given {
				known[arg.Key] = value
			}
		}
	case *instructions.LabelCommand:
		for _, label := range c.Labels {
			s.config.Labels[label.Key] = label.Value
		}
	case *instructions.CopyCommand:
		return s.copy(c)
	case *instructions.UserCommand:
		s.config.User = c.User
	case *instructions.ExposeCommand:
		for _, port := range c.Ports {
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			s.config.ExposedPorts[port] = struct{}{}
		}
	case *instructions.EntrypointCommand:
		if c.PrependShell {
			return fmt.Errorf("the image has no shell; write the instruction as a JSON list")
		}
		s.config.Entrypoint = c.CmdLine
	default:
		return fmt.Errorf("instruction %s is not supported", command.Name())
	}
	return nil
}

func (s *stage) copy(c *instructions.CopyCommand) error {
	if c.Chown != "" || c.Parents || len(c.SourcePaths) != 1 || len(c.ExcludePatterns) > 0 {
		return fmt.Errorf("COPY must have one file, and only the flags --from and --chmod")
	}
	if path.Dir(c.DestPath) != "/" || path.Base(c.DestPath) == "/" {
		return fmt.Errorf("target %s must be a file in the root directory", c.DestPath)
	}
	mode, err := strconv.ParseInt(c.Chmod, 8, 32)
	if err != nil {
		return fmt.Errorf("COPY requires --chmod with an octal mode: %w", err)
	}
	s.files = append(s.files, file{from: c.From, source: c.SourcePaths[0], target: c.DestPath, mode: mode})
	return nil
}
