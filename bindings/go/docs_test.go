package sandbox

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestEverythingExportedIsDocumented(t *testing.T) {
	files := token.NewFileSet()
	isSource := func(info fs.FileInfo) bool { return !strings.HasSuffix(info.Name(), "_test.go") }
	packages, err := parser.ParseDir(files, ".", isSource, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	check := func(name *ast.Ident, comments ...*ast.CommentGroup) {
		if !name.IsExported() {
			return
		}
		seen++
		for _, comment := range comments {
			if comment.Text() != "" {
				return
			}
		}
		t.Errorf("%s: %s has no comment", files.Position(name.Pos()), name.Name)
	}
	fields := func(list *ast.FieldList) {
		for _, field := range list.List {
			for _, name := range field.Names {
				check(name, field.Doc)
			}
		}
	}
	for _, declaration := range declarations(packages["sandbox"]) {
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			if isExported(d.Recv) {
				check(d.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					check(spec.Name, d.Doc, spec.Doc)
					if structure, isStruct := spec.Type.(*ast.StructType); isStruct && spec.Name.IsExported() {
						fields(structure.Fields)
					}
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						if d.Lparen.IsValid() {
							check(name, spec.Doc)
						} else {
							check(name, d.Doc)
						}
					}
				}
			}
		}
	}
	if seen < 200 {
		t.Errorf("only %d identifiers were looked at", seen)
	}
}

func TestTheGuideShowsTheExamples(t *testing.T) {
	code := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`(?m)^[ \t]+`).ReplaceAllString(string(text), "")
	}
	blocks := strings.Split(code("README.md"), "\n```go\n")
	seen := 0
	for number, block := range blocks[1:] {
		if strings.HasSuffix(blocks[number], " -->") {
			continue // a whole file, for tests/readme.rs
		}
		seen++
		if block, _, _ = strings.Cut(block, "```"); !strings.Contains(code("example_test.go"), block) {
			t.Errorf("no example has\n%s", block)
		}
	}
	if seen < 2 {
		t.Errorf("only %d parts of examples were looked at", seen)
	}
}

func declarations(of *ast.Package) (all []ast.Decl) {
	for _, file := range of.Files {
		all = append(all, file.Decls...)
	}
	return all
}

// isExported is true for a function, and for a method of an exported type.
func isExported(receiver *ast.FieldList) bool {
	if receiver == nil {
		return true
	}
	of := receiver.List[0].Type
	if pointer, isPointer := of.(*ast.StarExpr); isPointer {
		of = pointer.X
	}
	if generic, isGeneric := of.(*ast.IndexExpr); isGeneric {
		of = generic.X
	}
	return of.(*ast.Ident).IsExported()
}
