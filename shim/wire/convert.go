package wire

import (
	"encoding/json"
	"errors"

	"google.golang.org/protobuf/types/known/anypb"
)

func decodeJSON(encoded *anypb.Any, into any) error {
	if encoded == nil {
		return errors.New("missing")
	}
	return json.Unmarshal(encoded.Value, into)
}
