"""Istio's call from a CSR to a certificate (istio/api: security/v1alpha1/ca.proto).

The messages are declared here by field number instead of generated, so that they work with every
protobuf release and the agent imports nothing more for them.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

CREATE_CERTIFICATE = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
"""The method's path on the wire."""

_Field = descriptor_pb2.FieldDescriptorProto


def _describe() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="security/v1alpha1/ca.proto",
        package="istio.v1.auth",
        syntax="proto3",
        dependency=[struct_pb2.DESCRIPTOR.name],
    )
    request = file.message_type.add(name="IstioCertificateRequest")
    single, several = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED
    request.field.add(name="csr", number=1, type=_Field.TYPE_STRING, label=single)
    request.field.add(name="validity_duration", number=3, type=_Field.TYPE_INT64, label=single)
    request.field.add(
        name="metadata",
        number=4,
        type=_Field.TYPE_MESSAGE,
        type_name=".google.protobuf.Struct",
        label=single,
    )
    response = file.message_type.add(name="IstioCertificateResponse")
    response.field.add(name="cert_chain", number=1, type=_Field.TYPE_STRING, label=several)
    return file


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"istio.v1.auth.{name}"))


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
_pool.Add(_describe())

IstioCertificateRequest = _message("IstioCertificateRequest")
"""`csr`: PEM; `validity_duration`: seconds."""
IstioCertificateResponse = _message("IstioCertificateResponse")
"""`cert_chain`: PEM, the leaf first, the root last."""
