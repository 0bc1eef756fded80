//go:build linux

package main

import (
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// The part of SQS's AWS JSON protocol (1.0) that senders use. As with S3 nothing is stored; but the checksums are
// real, because clients compare them, and a batch that the service would not take is refused, because a sender must
// not look quick by sending fewer requests than it could.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html

const (
	sqsTargetPrefix  = "AmazonSQS."
	sqsBatchMessages = 10
	sqsRequestBytes  = 1 << 20 // 256 KiB until August 2025
	sqsContentType   = "application/x-amz-json-1.0"
	sqsAccount       = "000000000000"
)

type sqsAttribute struct {
	DataType    string
	StringValue string
	BinaryValue []byte
}

type sqsMessage struct {
	ID                     string `json:"Id"`
	MessageBody            string
	MessageAttributes      map[string]sqsAttribute
	MessageDeduplicationID string `json:"MessageDeduplicationId"`
}

type sqsRequest struct {
	sqsMessage
	QueueURL  string `json:"QueueUrl"`
	QueueName string
	Entries   []sqsMessage
}

type sqsSent struct {
	ID              string `json:"Id,omitempty"`
	MessageID       string `json:"MessageId"`
	MD5OfBody       string `json:"MD5OfMessageBody"`
	MD5OfAttributes string `json:"MD5OfMessageAttributes,omitempty"`
	SequenceNumber  string `json:"SequenceNumber,omitempty"`
}

type sqsBatchSent struct {
	Successful []sqsSent
	Failed     []struct{}
}

// sqsError is a refusal: the code of the JSON protocol, and the one that older clients know it by.
type sqsError struct{ code, queryCode, message string }

// sqsSends tells the operations that write messages from the others; only they wait and are counted.
func sqsSends(operation string) bool {
	return operation == "SendMessage" || operation == "SendMessageBatch"
}

// sqsAnswer reads a request of SQS: its answer, the messages that are written with it, and how long their bodies are.
func (s *server) sqsAnswer(operation string, body []byte) (answer []byte, keys []string, bodyBytes int64) {
	var request sqsRequest
	if err := json.Unmarshal(body, &request); err != nil {
		return sqsRefusal(&sqsError{"SerializationException", "MalformedInput", err.Error()}), nil, 0
	}
	var messages []sqsMessage
	switch operation {
	case "SendMessage":
		messages = []sqsMessage{request.sqsMessage}
	case "SendMessageBatch":
		messages = request.Entries
	default:
		return s.sqsOtherAnswer(operation, &request), nil, 0
	}
	if refused := sqsCheck(messages); refused != nil {
		return sqsRefusal(refused), nil, 0
	}
	sent := make([]sqsSent, len(messages))
	for i := range messages {
		message := &messages[i]
		sent[i] = s.sqsTake(message, strings.HasSuffix(request.QueueURL, ".fifo"))
		keys = append(keys, message.key())
		bodyBytes += int64(len(message.MessageBody))
	}
	var result any = sent[0]
	if operation == "SendMessageBatch" {
		result = sqsBatchSent{Successful: sent, Failed: []struct{}{}}
	}
	return answerWith("200 OK", sqsContentType, sqsJSON(result)), keys, bodyBytes
}

func (s *server) sqsTake(message *sqsMessage, fifo bool) sqsSent {
	s.messages++
	sent := sqsSent{
		ID:              message.ID,
		MessageID:       fmt.Sprintf("00000000-0000-4000-8000-%012x", s.messages),
		MD5OfBody:       md5Hex([]byte(message.MessageBody)),
		MD5OfAttributes: attributesMD5(message.MessageAttributes),
	}
	if fifo {
		sent.SequenceNumber = fmt.Sprintf("%020d", s.messages)
	}
	return sent
}

// sqsOtherAnswer is for what a client asks before it sends; every queue that is asked for is there.
func (s *server) sqsOtherAnswer(operation string, request *sqsRequest) []byte {
	s.counts.otherRequests++
	switch operation {
	case "GetQueueUrl":
		url := fmt.Sprintf("http://%s/%s/%s", s.address, sqsAccount, request.QueueName)
		return answerWith("200 OK", sqsContentType, sqsJSON(map[string]string{"QueueUrl": url}))
	case "GetQueueAttributes":
		name := request.QueueURL[strings.LastIndexByte(request.QueueURL, '/')+1:]
		attributes := map[string]string{
			"QueueArn":           "arn:aws:sqs:us-east-1:" + sqsAccount + ":" + name,
			"MaximumMessageSize": fmt.Sprint(sqsRequestBytes),
		}
		if strings.HasSuffix(name, ".fifo") {
			attributes["FifoQueue"] = "true"
			attributes["ContentBasedDeduplication"] = "false"
		}
		return answerWith("200 OK", sqsContentType, sqsJSON(map[string]any{"Attributes": attributes}))
	}
	return sqsRefusal(&sqsError{"UnknownOperationException", "InvalidAction", operation + " is not played here"})
}

func sqsCheck(messages []sqsMessage) *sqsError {
	prefix := "AWS.SimpleQueueService."
	if len(messages) == 0 {
		return &sqsError{"EmptyBatchRequest", prefix + "EmptyBatchRequest", "no message in the request"}
	}
	if len(messages) > sqsBatchMessages {
		return &sqsError{"TooManyEntriesInBatchRequest", prefix + "TooManyEntriesInBatchRequest", "more than 10 entries"}
	}
	size := 0
	ids := make(map[string]struct{}, len(messages))
	for i := range messages {
		size += messages[i].size()
		ids[messages[i].ID] = struct{}{}
	}
	if size > sqsRequestBytes {
		return &sqsError{"BatchRequestTooLong", prefix + "BatchRequestTooLong", fmt.Sprintf("%d bytes in one request", size)}
	}
	if len(ids) != len(messages) {
		return &sqsError{"BatchEntryIdsNotDistinct", prefix + "BatchEntryIdsNotDistinct", "an Id is there twice"}
	}
	return nil
}

// key is what makes a message the same as one sent before: its deduplication id, else its place in Kafka, else its body.
func (m *sqsMessage) key() string {
	if m.MessageDeduplicationID != "" {
		return m.MessageDeduplicationID
	}
	position, there := m.MessageAttributes["kafka-position"]
	if !there {
		return m.MessageBody
	}
	return position.StringValue
}

// size is what counts against the limit: the body and its attributes' names, types and values.
func (m *sqsMessage) size() int {
	size := len(m.MessageBody)
	for name, attribute := range m.MessageAttributes {
		size += len(name) + len(attribute.DataType) + len(attribute.StringValue) + len(attribute.BinaryValue)
	}
	return size
}

// attributesMD5 is the checksum that clients compare: names in order, every part with its length before it.
// https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
func attributesMD5(attributes map[string]sqsAttribute) string {
	if len(attributes) == 0 {
		return ""
	}
	names := make([]string, 0, len(attributes))
	for name := range attributes {
		names = append(names, name)
	}
	slices.Sort(names)
	var encoded []byte
	part := func(text string) {
		encoded = append(binary.BigEndian.AppendUint32(encoded, uint32(len(text))), text...)
	}
	for _, name := range names {
		attribute := attributes[name]
		part(name)
		part(attribute.DataType)
		if strings.HasPrefix(attribute.DataType, "Binary") {
			encoded = append(encoded, 2)
			part(string(attribute.BinaryValue))
		} else {
			encoded = append(encoded, 1)
			part(attribute.StringValue)
		}
	}
	return md5Hex(encoded)
}

func md5Hex(data []byte) string {
	sum := md5.Sum(data)
	return hex.EncodeToString(sum[:])
}

func sqsJSON(value any) []byte {
	out, err := json.Marshal(value)
	if err != nil {
		panic(err) // strings only: cannot fail
	}
	return out
}

func sqsRefusal(refused *sqsError) []byte {
	body := sqsJSON(map[string]string{"__type": "com.amazonaws.sqs#" + refused.code, "message": refused.message})
	return answerWith("400 Bad Request\r\nx-amzn-query-error: "+refused.queryCode+";Sender", sqsContentType, body)
}
