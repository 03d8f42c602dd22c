"""Lines as validators print them, and what a person reads instead."""

import pytest

from dicomnode.validation.explain import meaning_of

LINES = [
    (
        "dciodvfy",
        "Error - Missing attribute Type 1 Required Element=<CompletionFlag> Module=<SRDocumentGeneral>",
        "Completion Flag is missing, which the standard requires here.",
    ),
    (
        "dicom-validator",
        "SR Document General: Completion Flag is missing",
        "Completion Flag is missing, which the standard requires here.",
    ),
    (
        "dsrdump",
        "W: CompletionFlag (0040,a491) absent in SRDocumentGeneralModule (type 1)",
        "Completion Flag is missing, which the standard requires here.",
    ),
    (
        "dciodvfy",
        "Error - Empty attribute (no value) Type 1 Required Element=<InstanceNumber> Module=<SRDocumentGeneral>",
        "Instance Number is empty, and must have a value.",
    ),
    (
        "dsrdump",
        "W: InstanceNumber (0020,0013) empty in SRDocumentGeneralModule (type 1)",
        "Instance Number is empty, and must have a value.",
    ),
    (
        "dicom-validator",
        "SR Document General: Instance Number is empty",
        "Instance Number is empty, and must have a value.",
    ),
    (
        "dciodvfy",
        (
            "Error - Value invalid for this VR - (0x0008,0x0020) DA Study Date  DA [1] = <2020> - "
            "Length invalid for this VR = 4, expected == 8 or 10"
        ),
        'Study Date has the value "2020", which has not the form of its kind (DA).',
    ),
    (
        "dcmpschk",
        (
            "Error: Attribute value does not conform to data type definition. | "
            "Affected attribute: StudyDate (0008,0020), Type DA | Attribute value   : [2020] | "
            "Expected format for each value: [0-9]{8} with valid values for year, month and day"
        ),
        'Study Date has the value "2020", which has not the form of its kind (DA).',
    ),
    (
        "dcmpschk",
        (
            "Error: Value Length too large. | Affected length   : 26 bytes, should be 16 bytes maximum for CS. | "
            "Affected attribute: | (0070,0080) CS [lower case too long for it]             #  26, 1 ContentLabel"
        ),
        'Content Label has the value "lower case too long for it", which has not the form of its kind (CS).',
    ),
    (
        "dicom-validator",
        "General Study: Study Date has invalid value '2020' for VR DA",
        'Study Date has the value "2020", which has not the form of its kind (DA).',
    ),
    (
        "dciodvfy",
        "Error - Unrecognized enumerated value <X> for value 1 of attribute <Patient's Sex>",
        'Patient\'s Sex has the value "X", which is none of those that the standard allows.',
    ),
    (
        "dicom-validator",
        "Patient: Patient's Sex - enum value 'X' not allowed, allowed values: M, F, O",
        'Patient\'s Sex has the value "X", which is none of those that the standard allows.',
    ),
    (
        "dciodvfy",
        "Warning - Unrecognized defined term <XX> for value 1 of attribute <Modality>",
        'Modality has the value "XX", which is none of the standard\'s terms; own terms are permitted.',
    ),
    (
        "dciodvfy",
        "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x5101) CS View Position",
        "View Position has no place in an object of this kind.",
    ),
    (
        "dicom-validator",
        "General: View Position is unexpected",
        "View Position has no place in an object of this kind.",
    ),
    (
        "dicom-validator",
        "SC Image: Outer Sequence > View Position is not allowed by condition: Modality is MG",
        "View Position must not be there under the conditions of the standard.",
    ),
    (
        "dciodvfy",
        "Warning - Missing attribute or value that would be needed to build DICOMDIR - Patient ID",
        "Patient ID has no value, and without it the object cannot be put on exchange media (DICOMDIR).",
    ),
    (
        "dciodvfy",
        "Error - Sequence Item dataset read failed - giving up",
        "The data cannot be read to the end: the file is cut off or damaged.",
    ),
    (
        "dsrdump",
        "F: dsrdump: error (I/O suspension or premature end of stream) reading file: /x.dcm",
        "The data cannot be read to the end: the file is cut off or damaged.",
    ),
    (
        "PixelMed",
        "IOD (SOP Class) unrecognized",
        "The kind of object (SOP Class UID) is unknown, so that its attributes were not checked.",
    ),
    (
        "dicom-validator",
        "Unknown or retired SOP Class UID: 1.2.3.4",
        "The kind of object (SOP Class UID) is unknown, so that its attributes were not checked.",
    ),
    (
        "dsrdump",
        'E: Reading content item "1.5" (Unknown Value Type)',
        "The report's content cannot be read: unknown value type.",
    ),
    (
        "PixelMed",
        (
            "Error: Template 4019HasProperties CADAlgorithmIdentificationHasProperties/[Row 2] TEXT "
            '(111003,DCM,"Algorithm Version"): within 1.3.1.2: /CONTAINER (111036,DCM,"Mammography CAD Report")/'
            'CODE (111059,DCM,"Single Image Finding"): Missing required content item'
        ),
        'The content item "Algorithm Version" in "Single Image Finding" is missing (template 4019, row 2).',
    ),
    (
        "PixelMed",
        (
            "Error: Template 2010 KeyObjectSelection/[Row 1] CONTAINER CID 7010_WithTCE/[Row 8] IMAGE *: within 1: "
            '/CONTAINER (113000,DCM,"Of Interest"): Missing conditional content item'
        ),
        (
            'The content item "IMAGE" in "Of Interest" is missing, which is needed under the conditions of the '
            "template (template 2010, row 8)."
        ),
    ),
    (
        "PixelMed",
        (
            'Error: Template 1500 MeasurementReport/[Row 1] CONTAINER CID 7021/[Row 4] CODE (121058,DCM,"Procedure '
            'reported"): 1.7: /CONTAINER (126000,DCM,"Imaging Measurement Report")/CODE (121058,DCM,"Procedure '
            'reported"): Code (24606-6,LN,"Mammography Screening") not found in context group 100'
        ),
        (
            'The content item "Procedure reported" is wrong: Code (24606-6,LN,"Mammography Screening") not found in '
            "context group 100 (template 1500, row 4)."
        ),
    ),
    (
        "PixelMed",
        (
            'Warning: 1.10.2.7: /CONTAINER (126000,DCM,"Imaging Measurement Report")/TEXT (122405,DCM,"Algorithm '
            'Manufacturer"): Content Item not in template'
        ),
        'The content item "Algorithm Manufacturer" is not in the template.',
    ),
]


@pytest.mark.parametrize(("validator", "line", "sentence"), LINES)
def test_a_line_in_plain_words(validator: str, line: str, sentence: str) -> None:
    """The same fault reads the same, whoever finds it."""
    assert meaning_of(validator, line).sentence == sentence


def test_the_attribute_is_named_as_in_the_standard() -> None:
    """Keyword or name, it is one attribute; a private or unknown one keeps its own words."""
    by_keyword = meaning_of("dciodvfy", "Error - Missing attribute Type 2 Required Element=<PatientName> Module=<P>")
    by_name = meaning_of("dicom-validator", "Patient: Patient's Name is missing")
    assert by_keyword == by_name
    assert by_keyword.attribute == "Patient's Name"
    assert meaning_of("dicom-validator", "General: (0009,1001) is unexpected").attribute == "(0009,1001)"


def test_a_line_that_nobody_knows_is_kept() -> None:
    """Better the validator's own words than silence."""
    line = "Error - PixelData has incorrect value length - expected 336 dec - got 24576 dec"
    expected = "PixelData has incorrect value length - expected 336 dec - got 24576 dec."
    assert meaning_of("dciodvfy", line).sentence == expected
