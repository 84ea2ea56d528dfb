package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"reflect"
	"strings"
)

// fieldTable returns the JSON fields of the structs of files below cmd/redis-tls, with their comments.
func fieldTable(files ...string) (string, error) {
	var rows [][]string
	for _, name := range files {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "cmd/redis-tls/"+name, nil, parser.ParseComments)
		if err != nil {
			return "", err
		}
		ast.Inspect(file, func(node ast.Node) bool {
			spec, ok := node.(*ast.TypeSpec)
			if !ok {
				return true
			}
			object, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, f := range object.Fields.List {
				if f.Tag == nil {
					continue
				}
				tag, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
				if tag == "" || f.Doc == nil {
					err = fmt.Errorf("%s: %s has a field without json tag or comment", name, spec.Name)
					continue
				}
				rows = append(rows, []string{spec.Name.Name, code(tag), code(jsonType(fset, f.Type)), sentence(f)})
			}
			return true
		})
		if err != nil {
			return "", err
		}
	}
	return table([]string{"object", "field", "type", "meaning"}, rows), nil
}

// sentence returns the comment of a field, without the name that Go's comments begin with.
func sentence(f *ast.Field) string {
	text := strings.Join(strings.Fields(f.Doc.Text()), " ")
	for _, verb := range []string{" is ", " are "} {
		if rest, ok := strings.CutPrefix(text, f.Names[0].Name+verb); ok {
			text = rest
		}
	}
	text = strings.TrimPrefix(text, f.Names[0].Name+" ")
	return strings.ToUpper(text[:1]) + text[1:]
}

// jsonType returns a Go type as JSON has it.
func jsonType(fset *token.FileSet, of ast.Expr) string {
	switch of := of.(type) {
	case *ast.ArrayType:
		return "list of " + jsonType(fset, of.Elt)
	case *ast.MapType:
		return "map of " + jsonType(fset, of.Value)
	case *ast.StarExpr:
		return jsonType(fset, of.X)
	case *ast.SelectorExpr:
		if of.Sel.Name == "Time" {
			return "time"
		}
		return of.Sel.Name
	}
	var text strings.Builder
	if err := printer.Fprint(&text, fset, of); err != nil {
		return err.Error()
	}
	switch text.String() {
	case "bool":
		return "boolean"
	case "int32", "int":
		return "number"
	}
	return text.String()
}
