package harness

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestNamed(t *testing.T) {
	secret := corev1.Volume{
		Name:         "ca",
		VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "redis-ca"}},
	}
	for name, tt := range map[string]struct {
		annotation string
		want       []corev1.Volume
	}{
		"no annotation gives nothing": {``, nil},
		"a list gives its entries": {
			`[{"name":"ca","secret":{"secretName":"redis-ca"}}]`,
			[]corev1.Volume{secret},
		},
		"in a map the key is the name": {`{"ca":{"secret":{"secretName":"redis-ca"}}}`, []corev1.Volume{secret}},
		"in a map the entry's own name is used": {
			`{"x":{"name":"ca","secret":{"secretName":"redis-ca"}}}`,
			[]corev1.Volume{secret},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := named[corev1.Volume](tt.annotation)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestInjectingTwiceChangesNothing(t *testing.T) {
	for name, native := range map[string]bool{"as a container": false, "as a native sidecar": true} {
		t.Run(name, func(t *testing.T) {
			once := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{userVolumeAnnotation: `{"mine": {"emptyDir": {}}}`}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app"}}},
			}
			if err := injectSidecar(once, native); err != nil {
				t.Fatal(err)
			}
			twice := once.DeepCopy()
			if err := injectSidecar(twice, native); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(once, twice); diff != "" {
				t.Errorf("(-once +twice):\n%s", diff)
			}
		})
	}
}

func TestBoundPort(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"the port behind a colon":              {[]string{"--metrics=:8080"}, "8080"},
		"the port behind an address":           {[]string{"--metrics=0.0.0.0:8080"}, "8080"},
		"the value as an argument of its own":  {[]string{"--metrics", ":8080"}, "8080"},
		"the last of several":                  {[]string{"--metrics=:1", "--metrics=:2"}, "2"},
		"0 switches it off":                    {[]string{"--metrics=0"}, ""},
		"a flag that is not there":             {[]string{"--other=:1"}, ""},
		"a flag of which the name is a prefix": {[]string{"--metrics-secure=:1"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := boundPort(tt.args, "--metrics"); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
