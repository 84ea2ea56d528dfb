package describe

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/live"
	"github.com/redis-tls/redis-tls/cmd/redis-tls/internal/term"
	"github.com/redis-tls/redis-tls/internal/mesh"
	"github.com/redis-tls/redis-tls/internal/origination"
)

// none is printed for an empty field, as by kubectl.
const none = "<none>"

// table is the text of a report.
type table struct {
	strings.Builder
	paint term.Painter
	now   time.Time
}

// Table returns the report as text, as kubectl describe prints objects. Ages are those at the given time.
func (r *Report) Table(paint term.Painter, now time.Time) string {
	t := &table{paint: paint, now: now}
	for _, note := range r.Notes {
		t.WriteString(paint.Yellow("Note:") + " " + note + "\n")
	}
	for _, text := range deniedTexts(r.Denied) {
		t.WriteString(paint.Yellow("Denied:") + " you may not " + text + ".\n")
	}
	for i := range r.Items {
		if t.Len() > 0 {
			t.WriteByte('\n')
		}
		t.item(&r.Items[i])
	}
	return t.String()
}

// deniedTexts returns one text for the requests of a verb and a resource.
func deniedTexts(denied []live.Denied) (texts []string) {
	for i, d := range denied {
		last := i > 0 && denied[i-1].Verb == d.Verb && denied[i-1].Resource == d.Resource && denied[i-1].Group == d.Group
		if !last || d.Namespace == "" || d.Name != "" {
			texts = append(texts, d.String())
			continue
		}
		texts[len(texts)-1] += ", " + d.Namespace
	}
	return texts
}

func (t *table) item(item *Item) {
	t.field("Name", item.Object)
	if item.Template != "" {
		t.field("Template", item.Template)
	}
	t.field("Namespace", item.Namespace)
	if item.Injection != "" {
		t.field("Injection", origination.LabelNamespace+"="+item.Injection)
	}
	if len(item.Policies) > 0 {
		t.field("Policy", "policy, "+strings.Join(item.Policies, ", "))
	}
	decision := item.Decision.Outcome + " (" + item.Decision.Reason + ")"
	switch origination.Outcome(item.Decision.Outcome) {
	case origination.OutcomeRefused:
		decision = t.paint.Red(decision)
	case origination.OutcomeTolerated:
		decision = t.paint.Yellow(decision)
	case origination.OutcomeInjected:
		decision = t.paint.Green(decision)
	}
	t.field("New pods", decision)
	t.field("", item.Decision.Meaning)
	if item.Decision.Gated {
		t.field("", "A new pod waits at the scheduling gate "+origination.GateFirstUse+" for its objects.")
	}
	t.lines("Problems", problemTexts(item.Problems))
	t.lines("Warnings", item.Warnings)
	t.settings(item.Settings)
	t.connections(item.Connections)
	t.files(item.Files)
	t.objects(item.Objects)
	t.pods(item.Pods)
	t.events(item.Events)
}

func (t *table) field(name, value string) {
	if name != "" {
		name += ":"
	}
	fmt.Fprintf(t, "%-11s %s\n", name, value)
}

// lines prints a list, and nothing if it is empty.
func (t *table) lines(name string, lines []string) {
	if len(lines) == 0 {
		return
	}
	t.WriteString(name + ":\n")
	for _, line := range lines {
		t.WriteString("  " + line + "\n")
	}
}

func problemTexts(problems []Problem) (texts []string) {
	for _, p := range problems {
		if text := p.Reason + ": " + p.Message; !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return texts
}

// grid prints rows below a head, with columns of equal width. A colour paints a cell after it was measured.
func (t *table) grid(name string, head []string, rows [][]string, colour func(row, column int) func(string) string) {
	if len(rows) == 0 {
		return
	}
	t.WriteString(name + ":\n")
	widths := make([]int, len(head))
	underline := make([]string, len(head))
	for i := range head {
		underline[i] = strings.Repeat("-", utf8.RuneCountInString(head[i]))
		for _, row := range append([][]string{head}, rows...) {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for n, row := range append([][]string{head, underline}, rows...) {
		line := "  "
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
			if n >= 2 && colour != nil {
				if paint := colour(n-2, i); paint != nil {
					cell = paint(cell)
				}
			}
			line += cell + padding
		}
		t.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

func (t *table) settings(settings []Setting) {
	var rows [][]string
	for _, s := range settings {
		value := s.Value
		if value == "" {
			value = `""`
		}
		rows = append(rows, []string{s.Key, value, s.Source})
	}
	t.grid("Requested", []string{"Key", "Value", "From"}, rows, nil)
}

func (t *table) connections(connections []Connection) {
	var rows [][]string
	for _, c := range connections {
		var ports []string
		for _, p := range c.Ports {
			text := strconv.Itoa(int(p.Port))
			if p.TargetPort != p.Port {
				text += "→" + strconv.Itoa(int(p.TargetPort))
			}
			ports = append(ports, text)
		}
		for _, n := range c.PassthroughPorts {
			ports = append(ports, strconv.Itoa(int(n))+" (own TLS)")
		}
		for _, name := range c.Names {
			host := strings.Join(append([]string{name.Host}, name.Aliases...), ",")
			rows = append(rows, []string{host, strings.Join(ports, ","), orNone(strings.Join(name.VIPs, ",")), c.Key})
		}
		for _, address := range c.Addresses {
			rows = append(rows, []string{address, strings.Join(ports, ","), none, c.Key})
		}
	}
	t.grid("Connections", []string{"Dialled", "Ports", "VIP", "Key"}, rows, nil)
}

func orNone(text string) string {
	if text == "" {
		return none
	}
	return text
}

func (t *table) files(files []File) {
	var rows [][]string
	for _, f := range files {
		rows = append(rows, []string{f.Kind + "/" + f.Name, strings.Join(f.Keys, ","), f.State, f.Detail})
	}
	t.grid("Files", []string{"Object", "Keys", "State", ""}, rows, t.stateColour(2, func(i int) string {
		return files[i].State
	}))
}

func (t *table) objects(objects []Object) {
	var rows [][]string
	for _, o := range objects {
		rows = append(rows, []string{o.Kind, o.Name, o.Purpose, o.State, o.Detail})
	}
	t.grid("Objects", []string{"Kind", "Name", "For", "State", ""}, rows, t.stateColour(3, func(i int) string {
		return objects[i].State
	}))
}

// stateColour returns the colours of a column of states.
func (t *table) stateColour(column int, state func(row int) string) func(row, column int) func(string) string {
	return func(row, at int) func(string) string {
		if at != column {
			return nil
		}
		switch state(row) {
		case string(mesh.StateInForce), filePresent:
			return t.paint.Green
		case string(mesh.StateMissing), string(mesh.StateEdited), string(mesh.StateUnmanaged), fileMissingKey:
			return t.paint.Red
		case string(mesh.StateYoung), string(mesh.StateMarked):
			return t.paint.Yellow
		}
		return nil
	}
}

func (t *table) pods(pods []Pod) {
	var rows [][]string
	for _, p := range pods {
		gate := none
		if p.Gated {
			gate = "waiting"
		}
		rows = append(rows, []string{p.Name, p.Phase, p.TLS, gate, p.Detail})
	}
	t.grid("Pods", []string{"Name", "Phase", "TLS", "Gate", ""}, rows, nil)
	if len(pods) != 1 || pods[0].Request == nil {
		return
	}
	p := pods[0]
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(p.Request)) {
		lines = append(lines, key+": "+p.Request[key])
	}
	for _, name := range slices.Sorted(maps.Keys(p.VIPs)) {
		lines = append(lines, "VIP of "+name+": "+strings.Join(p.VIPs[name], ","))
	}
	for _, label := range slices.Sorted(maps.Keys(p.Labels)) {
		lines = append(lines, "label "+label+"="+p.Labels[label])
	}
	if p.FirstUse != "" {
		lines = append(lines, "admitted before its objects existed, at "+p.FirstUse)
	}
	t.lines("Admitted with", lines)
}

func (t *table) events(events []Event) {
	var rows [][]string
	for _, e := range events {
		message := strings.Join(strings.Fields(e.Message), " ")
		rows = append(rows, []string{e.Type, e.Reason, ago(t.now.Sub(e.LastSeen)), e.Object, message})
	}
	head := []string{"Type", "Reason", "Age", "Object", "Message"}
	t.grid("Events", head, rows, func(row, column int) func(string) string {
		if column == 0 && events[row].Type == "Warning" {
			return t.paint.Yellow
		}
		return nil
	})
}

// ago writes a duration as kubectl does.
func ago(d time.Duration) string { return duration.HumanDuration(max(0, d)) }
