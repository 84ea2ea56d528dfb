package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// EtcdKey is a key of etcd with the revision of its last change.
type EtcdKey struct {
	Key         string
	ModRevision int64
}

// EtcdKeys lists the keys with a prefix, sorted. "/registry/pods/" has all pods. If two listings are equal, nothing
// below the prefix was written in between.
func (c *ControlPlane) EtcdKeys(ctx context.Context, prefix string) ([]EtcdKey, error) {
	if prefix == "" {
		return nil, fmt.Errorf("listing etcd keys: the prefix is empty")
	}
	end := []byte(prefix)
	end[len(end)-1]++ // the first key after all with the prefix; prefixes are ASCII here
	request, err := json.Marshal(map[string]any{"key": []byte(prefix), "range_end": end, "keys_only": true})
	if err != nil {
		return nil, err
	}
	// etcd's JSON gateway: bytes are base64 and 64-bit numbers strings, as in all JSON of protobuf.
	var answer struct {
		KVs []struct {
			Key         []byte `json:"key"`
			ModRevision int64  `json:"mod_revision,string"`
		} `json:"kvs"`
	}
	if err := post(ctx, c.etcdURL+"/v3/kv/range", request, &answer); err != nil {
		return nil, fmt.Errorf("listing etcd keys below %s: %w", prefix, err)
	}
	keys := make([]EtcdKey, 0, len(answer.KVs))
	for _, kv := range answer.KVs {
		keys = append(keys, EtcdKey{Key: string(kv.Key), ModRevision: kv.ModRevision})
	}
	return keys, nil
}

// CompactEtcd removes all revisions except the newest, which it returns. A request for an older one gets 410 Gone.
func (c *ControlPlane) CompactEtcd(ctx context.Context) (revision int64, err error) {
	var answer struct {
		Header struct {
			Revision int64 `json:"revision,string"`
		} `json:"header"`
	}
	fail := func(err error) (int64, error) { return 0, fmt.Errorf("compacting etcd: %w", err) }
	if err := post(ctx, c.etcdURL+"/v3/kv/range", []byte(`{"key":"AA==","limit":1}`), &answer); err != nil {
		return fail(err)
	}
	revision = answer.Header.Revision
	request := fmt.Appendf(nil, `{"revision":"%d","physical":true}`, revision)
	if err := post(ctx, c.etcdURL+"/v3/kv/compaction", request, &answer); err != nil {
		return fail(err)
	}
	return revision, nil
}

func post(ctx context.Context, url string, body []byte, answer any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	return exchange(http.DefaultClient, request, answer)
}

func get(ctx context.Context, client *http.Client, url string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	return exchange(client, request, answer)
}

// exchange sends the request and decodes the JSON of its answer.
func exchange(client *http.Client, request *http.Request, answer any) error {
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, content)
	}
	return json.Unmarshal(content, answer)
}
